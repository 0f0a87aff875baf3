"""Published data sets: read from their tidy form, or downloaded from their authors and converted to it."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from skspace.datasets._bunch import check_bool, make_bunch
from skspace.datasets._csv_splits import find_data_home, pack_rows, read_split, split_path, work_folder, write_splits
from skspace.datasets._download import Original, check_sha256, download

__all__ = ["PublishedSet", "to_integers", "to_lists"]

# Errors from reading a damaged file. RecursionError comes from JSON that is nested too deeply.
_DAMAGE = (ValueError, EOFError, RecursionError, zlib.error, csv.Error, gzip.BadGzipFile, tarfile.TarError)

Rows = dict[str, list[tuple[str, ...]]]


def to_objects(values: Sequence[Any]) -> np.ndarray:
    # np.array(values, dtype=object) would turn lists of equal length into a second axis.
    return np.fromiter(values, dtype=object, count=len(values))


def to_integers(cells: list[str]) -> np.ndarray:
    return np.array([int(cell) for cell in cells], dtype=np.int64)


def to_lists(cells: list[str]) -> np.ndarray:
    """Parsed JSON; None for an empty cell, whose value is unknown."""
    return to_objects([json.loads(cell) if cell else None for cell in cells])


@dataclass(frozen=True)
class PublishedSet:
    """Description of one published data set.

    Parameters
    ----------
    name : str
        Name of its folder in the data home, and of its description.
    caller : str
        Name of the public function, for messages.
    columns : tuple of str
        Columns of the tidy form; the first are id, text and label.
    labels : tuple of str
        The classes, sorted.
    splits : tuple of str
        Parts of the set, in the order in which "all" joins them.
    originals : tuple of Original
        The authors' files.
    convert : callable
        Converts the paths of the originals to {split: rows of the tidy form}.
    arrays : mapping, default={}
        For a column, the function that makes an array of its cells. Other columns become arrays of str.
    sha256 : mapping, default={}
        For a split, the sha256 of its uncompressed tidy form, if the originals have no published checksum.
    """

    name: str
    caller: str
    columns: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...]
    originals: tuple[Original, ...]
    convert: Callable[..., Rows]
    arrays: Mapping[str, Callable[[list[str]], np.ndarray]] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)

    def fetch(
        self,
        subset: str,
        data_home: str | os.PathLike[str] | None,
        download_if_missing: bool,
        return_X_y: bool,
        as_frame: bool,
        n_retries: int,
        delay: float,
    ) -> Any:
        """Implement a public ``fetch_`` function, which documents the parameters."""
        splits = self._check_subset(subset)
        check_bool("download_if_missing", download_if_missing)
        check_bool("return_X_y", return_X_y)
        check_bool("as_frame", as_frame)
        n_retries, delay = _check_retries(n_retries, delay)

        folder = find_data_home(data_home) / self.name
        missing = [path for split in splits if not (path := split_path(folder, split)).exists()]
        if missing and not download_if_missing:
            raise OSError(
                f"Expected the file {missing[0]}, which does not exist, and download_if_missing=False. "
                f"Set download_if_missing=True. {self._advice(folder)}"
            )
        if missing:
            self._make(folder, n_retries, delay)

        parts = [self._read(folder, split) for split in splits]
        columns = {name: np.concatenate([part[name] for part in parts]) for name in self.columns}
        return make_bunch(
            columns,
            caller=self.caller,
            descr=f"{self.name}.rst",
            target_names=list(self.labels),
            return_X_y=return_X_y,
            as_frame=as_frame,
            **{name: columns[name] for name in self.columns[3:]},
        )

    def _check_subset(self, subset: str) -> tuple[str, ...]:
        known = (*self.splits, "all")
        if subset not in known:
            raise ValueError(f"subset must be one of {', '.join(map(repr, known))}, got {subset!r}.")
        return self.splits if subset == "all" else (subset,)

    def _make(self, folder: Path, n_retries: int, delay: float) -> None:
        with work_folder(folder) as work:
            paths = [self._find_original(original, folder, work, n_retries, delay) for original in self.originals]
            write_splits(folder, work, self._convert(paths, folder))

    def _find_original(self, original: Original, folder: Path, work: Path, n_retries: int, delay: float) -> Path:
        by_hand = folder / original.name
        if not by_hand.exists():
            return download(original, work, n_retries=n_retries, delay=delay, advice=self._advice(folder))
        try:
            check_sha256(by_hand, original)
        except OSError as error:
            raise OSError(f"{by_hand}: {error}. Delete it or save {original.url} there again.") from error
        return by_hand

    def _convert(self, paths: list[Path], folder: Path) -> dict[str, bytes]:
        try:
            rows = self.convert(*paths)
            contents = {split: pack_rows(self.columns, rows[split]) for split in self.splits}
            for split, sha256 in self.sha256.items():
                got = hashlib.sha256(contents[split]).hexdigest()
                if got != sha256:
                    raise ValueError(f"expected {split} to have the sha256 {sha256}, got {got}")
        except _DAMAGE as error:
            names = " and ".join(original.name for original in self.originals)
            raise ValueError(
                f"Expected {names} from {self._urls()} to be as published, got {_describe(error)}. "
                f"{self._advice(folder)}"
            ) from error
        return contents

    def _read(self, folder: Path, split: str) -> dict[str, np.ndarray]:
        path = split_path(folder, split)
        try:
            cells = read_split(path, self.columns)
            if unknown := sorted(set(cells["label"]) - set(self.labels)):
                raise ValueError(f"expected the labels {', '.join(self.labels)}, got {unknown[0]!r}")
            return {name: self.arrays.get(name, to_objects)(cells[name]) for name in self.columns}
        except _DAMAGE as error:
            raise ValueError(
                f"{path} is damaged: {_describe(error)}. Delete it; the next call makes it again from {self._urls()}. "
                f"{self._advice(folder)}"
            ) from error

    def _urls(self) -> str:
        return " and ".join(original.url for original in self.originals)

    def _advice(self, folder: Path) -> str:
        files = " and ".join(f"{original.url} as {folder / original.name}" for original in self.originals)
        tidy = ", ".join(f"{self.name}/{split}.csv.gz" for split in self.splits)
        return (
            f"To avoid the download, save {files}, or set data_home= or the environment variable SKSPACE_DATA to a "
            f"folder that contains {tidy}."
        )


def _check_retries(n_retries: Any, delay: Any) -> tuple[int, float]:
    if isinstance(n_retries, bool) or not isinstance(n_retries, Integral) or n_retries < 0:
        raise ValueError(f"n_retries must be an int of at least 0, got {n_retries!r}.")
    if isinstance(delay, bool) or not isinstance(delay, Real) or not 0 <= float(delay) < float("inf"):
        raise ValueError(f"delay must be a finite number of seconds of at least 0, got {delay!r}.")
    return int(n_retries), float(delay)


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
