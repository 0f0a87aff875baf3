"""Tidy form of a data set: SET/{train,val,test}.csv.gz in the data home.

The files are comma-separated UTF-8 with a header row, whose first columns are id, text and label. Lists are JSON.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

__all__ = ["find_data_home", "pack_rows", "read_split", "split_path", "work_folder", "write_splits"]

_WORK = ".being-made-"
_STALE_SECONDS = 86400.0


def find_data_home(data_home: str | os.PathLike[str] | None) -> Path:
    """The folder of all data sets; it need not exist."""
    if data_home is None:
        data_home = os.environ.get("SKSPACE_DATA") or _default_data_home()
    elif not isinstance(data_home, (str, os.PathLike)):
        raise TypeError(f"data_home must be a path or None, got {data_home!r}.")
    # Absolute, since messages name it as the place for files.
    return Path(data_home).expanduser().absolute()


def _default_data_home() -> Path:
    # As sklearn.datasets.get_data_home(), which would also create the folder.
    return Path(os.environ.get("SCIKIT_LEARN_DATA") or "~/scikit_learn_data") / "skspace"


def split_path(folder: Path, split: str) -> Path:
    return folder / f"{split}.csv.gz"


def read_split(path: Path, columns: Sequence[str]) -> dict[str, list[str]]:
    """Read the cells of some columns.

    A damaged file raises ValueError or an error of csv, gzip or zlib.
    """
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = csv.reader(file, strict=True)
        header = next(rows, [])
        table = list(rows)
    if not set(columns) <= set(header):
        raise ValueError(f"expected the columns {', '.join(columns)}, got {', '.join(header) or 'an empty file'}")
    for number, row in enumerate(table, start=1):
        if len(row) != len(header):
            raise ValueError(f"expected {len(header)} cells in row {number}, got {len(row)}")
    positions = {name: header.index(name) for name in columns}
    return {name: [row[position] for row in table] for name, position in positions.items()}


def pack_rows(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """A header and rows as uncompressed CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode("utf-8")


@contextmanager
def work_folder(folder: Path) -> Iterator[Path]:
    """Temporary folder within ``folder``, and so on the same disk.

    If the process is killed, a later call deletes the folder after a day.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _delete_stale_folders(folder)
        work = TemporaryDirectory(dir=folder, prefix=_WORK)
    except OSError as error:
        raise OSError(f"Expected a writable folder, got {folder}: {error}. {_folder_advice(folder)}") from error
    with work as name:
        yield Path(name)


def _delete_stale_folders(folder: Path) -> None:
    for work in folder.glob(f"{_WORK}*"):
        with suppress(FileNotFoundError):  # another process may delete it first
            if time.time() - work.lstat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(work, ignore_errors=True)


def write_splits(folder: Path, work: Path, contents: Mapping[str, bytes]) -> None:
    """Write all splits to ``work``, then move the missing ones to ``folder``, so that no file is ever incomplete."""
    try:
        for split, content in contents.items():
            # A fixed mtime makes equal content equal bytes.
            split_path(work, split).write_bytes(gzip.compress(content, mtime=0))
        for split in contents:
            if not split_path(folder, split).exists():
                os.replace(split_path(work, split), split_path(folder, split))
    except OSError as error:
        raise OSError(
            f"Expected to write {', '.join(contents)} to {folder}, got {error}. {_folder_advice(folder)}"
        ) from error


def _folder_advice(folder: Path) -> str:
    return (
        "Free disk space, or set data_home= or the environment variable SKSPACE_DATA to a folder that is writable or "
        f"already contains the folder {folder.name} with its csv.gz files."
    )
