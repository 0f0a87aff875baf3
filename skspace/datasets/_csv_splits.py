"""The tidy form of a data set: SET/{train,val,test}.csv.gz in the data home.

UTF-8, commas, and a header row whose first columns are id, text and label. What is a list is JSON.
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
    """The folder that holds all data sets, whether it exists or not."""
    if data_home is None:
        data_home = os.environ.get("SKSPACE_DATA") or _default_data_home()
    elif not isinstance(data_home, (str, os.PathLike)):
        raise TypeError(f"data_home must be a path or None, got {data_home!r}.")
    # Absolute, as it appears in messages that say where to put a file.
    return Path(data_home).expanduser().absolute()


def _default_data_home() -> Path:
    # Where sklearn.datasets.get_data_home() points; that function would also make the folder, even to read nothing.
    return Path(os.environ.get("SCIKIT_LEARN_DATA") or "~/scikit_learn_data") / "skspace"


def split_path(folder: Path, split: str) -> Path:
    return folder / f"{split}.csv.gz"


def read_split(path: Path, columns: Sequence[str]) -> dict[str, list[str]]:
    """The cells of some columns; ValueError and what csv, gzip and zlib raise if the file is damaged."""
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
    """A header and rows as CSV, not compressed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode("utf-8")


@contextmanager
def work_folder(folder: Path) -> Iterator[Path]:
    """A folder within ``folder``, on the same disk, that is gone afterwards, or a day after its process was killed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_left_over(folder)
        work = TemporaryDirectory(dir=folder, prefix=_WORK)
    except OSError as error:
        raise OSError(
            f"Expected a folder that can be written to, got {folder}: {error}. {_elsewhere(folder)}"
        ) from error
    with work as name:
        yield Path(name)


def _remove_left_over(folder: Path) -> None:
    for work in folder.glob(f"{_WORK}*"):
        with suppress(FileNotFoundError):  # another process may be at it too
            if time.time() - work.lstat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(work, ignore_errors=True)


def write_splits(folder: Path, work: Path, contents: Mapping[str, bytes]) -> None:
    """Write CSV of all splits in ``work``, then move what ``folder`` lacks: no file is ever half there."""
    try:
        for split, content in contents.items():
            # mtime: equal content, equal bytes.
            split_path(work, split).write_bytes(gzip.compress(content, mtime=0))
        for split in contents:
            if not split_path(folder, split).exists():
                os.replace(split_path(work, split), split_path(folder, split))
    except OSError as error:
        raise OSError(
            f"Expected to write {', '.join(contents)} to {folder}, got {error}. {_elsewhere(folder)}"
        ) from error


def _elsewhere(folder: Path) -> str:
    return (
        "Make room there, or let data_home= or the environment variable SKSPACE_DATA name a folder that can be "
        f"written to or that has the folder {folder.name} with its csv.gz files already."
    )
