"""Original files of data sets: fetching one over the network. Only door to pooch."""

from __future__ import annotations

import hashlib
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Original", "check_sha256", "download"]

_TIMEOUT = 30  # seconds without a byte


@dataclass(frozen=True)
class Original:
    """A file as its authors publish it; ``sha256`` is None where no public text states it."""

    name: str
    url: str
    sha256: str | None = None


class _ChecksumError(OSError):
    pass


def check_sha256(path: Path, original: Original) -> None:
    """Raise OSError if a file is not the original one."""
    if original.sha256 is None:
        return
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 != original.sha256:
        raise _ChecksumError(f"expected the sha256 {original.sha256}, got {sha256} of {path.stat().st_size} bytes")


def download(original: Original, folder: Path, *, n_retries: int, delay: float, advice: str) -> Path:
    """Fetch a file into a folder of the caller's own.

    Parameters
    ----------
    original : Original
        What to fetch.
    folder : Path
        Where to write it; what is there after a failure is of no use.
    n_retries : int
        How often to try again what may pass: no connection, a connection cut, an error of the server's, a wrong
        checksum.
    delay : float
        Seconds between two tries.
    advice : str
        What to do instead, for messages.

    Returns
    -------
    path : Path
        The file in ``folder``.

    Raises
    ------
    ImportError
        If pooch is not installed.
    OSError
        If the file cannot be had, is not the one expected, or cannot be written.
    """
    pooch, requests = _import_pooch(original, advice)
    path = folder / original.name
    while True:
        try:
            _fetch(pooch, original.url, path)
            check_sha256(path, original)
            return path
        except OSError as error:
            if n_retries == 0 or not _may_pass(error, requests):
                raise OSError(f"Expected to download {original.url}, got: {error}. {advice}") from error
            warnings.warn(f"Downloading {original.url} anew in {delay} s, after: {error}", stacklevel=2)
            n_retries -= 1
            time.sleep(delay)


def _import_pooch(original: Original, advice: str) -> tuple[Any, Any]:
    try:
        # Here and not at the top: nothing but a download needs them. pooch depends on requests.
        import pooch
        import requests
    except ImportError as error:
        raise ImportError(
            f"Downloading {original.url} needs pooch, which is not installed. "
            f"Install it with: pip install 'skspace[datasets]'. {advice}"
        ) from error
    return pooch, requests


def _fetch(pooch: Any, url: str, path: Path) -> None:
    from skspace._runtime.progress_bar import Bar  # nothing but a download needs it

    responses: list[Any] = []

    def keep(response: Any, *args: Any, **kwargs: Any) -> None:
        responses.append(response)

    try:
        # The total is known when the server has answered; until then any but 0, which pooch takes for no bar at all.
        with Bar(total=1, desc=f"Downloading {path.name}", unit="B") as bar:
            pooch.HTTPDownloader(progressbar=bar, timeout=_TIMEOUT, hooks={"response": keep})(url, str(path), None)
    finally:
        # pooch leaves its socket open if the connection is cut or the disk is full.
        for response in responses:
            response.close()


def _may_pass(error: OSError, requests: Any) -> bool:
    if isinstance(error, requests.HTTPError):
        status = error.response.status_code
        return status in {408, 429} or status >= 500
    # Any other OSError is the disk's.
    return isinstance(error, (_ChecksumError, requests.RequestException))
