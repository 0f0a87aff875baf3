"""Download of the original files of data sets, with pooch."""

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
    """A file as its authors publish it; ``sha256`` is None if no checksum has been published."""

    name: str
    url: str
    sha256: str | None = None


class _ChecksumError(OSError):
    pass


def check_sha256(path: Path, original: Original) -> None:
    """Raise OSError if the checksum of a file differs from that of the original."""
    if original.sha256 is None:
        return
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 != original.sha256:
        raise _ChecksumError(f"expected the sha256 {original.sha256}, got {sha256} of {path.stat().st_size} bytes")


def download(original: Original, folder: Path, *, n_retries: int, delay: float, advice: str) -> Path:
    """Download a file into a folder of the caller.

    Parameters
    ----------
    original : Original
        The file.
    folder : Path
        Where to write the file; after a failure it may hold an incomplete one.
    n_retries : int
        Maximum number of further tries after temporary failures: connection errors, server errors, wrong checksums.
    delay : float
        Seconds between two tries.
    advice : str
        Alternative to the download, for messages.

    Returns
    -------
    path : Path
        The file in ``folder``.

    Raises
    ------
    ImportError
        If pooch is not installed.
    OSError
        If the file cannot be downloaded or written, or its checksum is wrong.
    """
    pooch, requests = _import_pooch(original, advice)
    path = folder / original.name
    while True:
        try:
            _fetch(pooch, original.url, path)
            check_sha256(path, original)
            return path
        except OSError as error:
            if n_retries == 0 or not _is_temporary(error, requests):
                raise OSError(f"Expected to download {original.url}, got: {error}. {advice}") from error
            warnings.warn(f"Downloading {original.url} again in {delay} s, after: {error}", stacklevel=2)
            n_retries -= 1
            time.sleep(delay)


def _import_pooch(original: Original, advice: str) -> tuple[Any, Any]:
    try:
        # Imported here, since they are optional. pooch depends on requests.
        import pooch
        import requests
    except ImportError as error:
        raise ImportError(
            f"Downloading {original.url} needs pooch, which is not installed. "
            f"Install it with: pip install 'skspace[datasets]'. {advice}"
        ) from error
    return pooch, requests


def _fetch(pooch: Any, url: str, path: Path) -> None:
    from skspace._runtime.progress_bar import Bar  # only downloads need it

    responses: list[Any] = []

    def keep_response(response: Any, *args: Any, **kwargs: Any) -> None:
        responses.append(response)

    try:
        # The total is unknown until the server answers. pooch would not show a bar with total 0.
        with Bar(total=1, desc=f"Downloading {path.name}", unit="B") as bar:
            pooch.HTTPDownloader(progressbar=bar, timeout=_TIMEOUT, hooks={"response": keep_response})(
                url, str(path), None
            )
    finally:
        # pooch leaves its socket open after a lost connection or on a full disk.
        for response in responses:
            response.close()


def _is_temporary(error: OSError, requests: Any) -> bool:
    if isinstance(error, requests.HTTPError):
        status = error.response.status_code
        return status in {408, 429} or status >= 500
    # Any other OSError comes from the disk.
    return isinstance(error, (_ChecksumError, requests.RequestException))
