"""Social Media Attributions in the context of the water crisis."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

from skspace.datasets._download import Original
from skspace.datasets._published_set import PublishedSet, Rows

__all__ = ["fetch_social_media_attributions"]

_SPLITS = ("train", "val", "test")
_HEADER = ["sentences", "attribution", "attrib_words"]


def fetch_social_media_attributions(
    *,
    subset: str = "train",
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
) -> Any:
    """Load Social Media Attributions: who or what is blamed for a water crisis.

    5,624 rows, each a sentence of a comment on videos about the water crisis
    in Chennai, 2019, and a possible cause. The label says whether the sentence
    attributes the crisis to that cause. The division is that of the Space
    Model's authors: 4,499 rows for training, 563 for validation, 562 for
    testing.

    Downloaded from the repository of the Space Model's authors, 0.6 MB. No
    licence is stated there. The set is that of Sarkar et al. [1]_.

    The first call writes ``train.csv.gz``, ``val.csv.gz`` and
    ``test.csv.gz`` to the folder ``sma`` of the data home; later calls
    only read them.

    Parameters
    ----------
    subset : {"train", "val", "test", "all"}, default="train"
        Which part to load; "all" is training, validation and test
        sentences, in this order.
    data_home : str or path-like, default=None
        The folder of all data sets; this one is in its folder ``sma``. None
        means the environment variable ``SKSPACE_DATA`` or, if that is not set,
        the folder ``skspace`` in scikit-learn's own data home
        (``SCIKIT_LEARN_DATA``, or ``~/scikit_learn_data``).
    download_if_missing : bool, default=True
        If False, raise an OSError instead of downloading missing data.
    return_X_y : bool, default=False
        If True, return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        If True, ``data`` and ``target`` are pandas Series and ``frame`` is a
        pandas DataFrame. Needs pandas.
    n_retries : int, default=3
        Maximum number of further tries if the connection or the server fails,
        or a checksum is wrong.
    delay : float, default=1.0
        Seconds between two tries.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with these attributes:

        data : ndarray of str, shape (n_sentences,), dtype object
            The sentences. A Series named ``text`` if ``as_frame=True``.
        target : ndarray of str, shape (n_sentences,), dtype object
            ``1`` if the sentence blames the cause, else ``0``, as str.
            A Series named ``label`` if ``as_frame=True``.
        target_names : list of str, length 2
            ``0``, ``1``.
        ids : ndarray of str, shape (n_sentences,), dtype object
            The sentence's row in the authors' file, counted from 0.
        attrib_words : ndarray of str, shape (n_sentences,), dtype object
            The cause the row is about, one of 23, such as ``climate change``.
        frame : DataFrame of shape (n_sentences, 4) or None
            The columns ``id``, ``text``, ``label`` and ``attrib_words``
            if ``as_frame=True``, else None.
        DESCR : str
            The full description of the data set, with its licence.

    (data, target) : tuple
        Only if ``return_X_y=True``: the two attributes described above.

    Raises
    ------
    ImportError
        If the data must be downloaded and pooch is not installed, or
        ``as_frame=True`` and pandas is not.
    OSError
        If the data are missing and ``download_if_missing=False``, cannot be
        downloaded, differ from their checksum, or cannot be written.
    TypeError
        If a switch is not a bool, or ``data_home`` is not a path.
    ValueError
        If ``subset``, ``n_retries`` or ``delay`` has an invalid value, or a
        file in ``data_home`` is damaged.

    Notes
    -----
    42 test and 39 validation sentences are also in the training part: a
    sentence that blames two causes is two rows, and the division does not keep
    them together.

    References
    ----------
    .. [1] Sarkar, KhudaBukhsh and others (2020). "Social Media Attributions in
       the Context of Water Crisis." EMNLP 2020, arXiv:2001.01697.
    .. [2] The Space Model, arXiv:2401.16638.
       https://github.com/StepanTita/space-model

    Examples
    --------
    >>> from skspace.datasets import fetch_social_media_attributions
    >>> sentences = fetch_social_media_attributions(subset="test")  # doctest: +SKIP
    >>> sentences.data.shape  # doctest: +SKIP
    (562,)
    """
    return _SET.fetch(subset, data_home, download_if_missing, return_X_y, as_frame, n_retries, delay)


def _convert(file: Path) -> Rows:
    # Imported here to keep the import of this module fast.
    from sklearn.model_selection import train_test_split

    # The division of the Space Model's authors, not stratified. The first half of the rest is the test part.
    train, rest = train_test_split(_read_rows(file), test_size=0.2, random_state=42)
    test, val = train_test_split(rest, test_size=0.5, random_state=42)
    return {"train": train, "val": val, "test": test}


def _read_rows(path: Path) -> list[tuple[str, ...]]:
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, strict=True)
    if header != _HEADER:
        raise ValueError(f"expected the columns {', '.join(_HEADER)}, got {', '.join(header)}")
    return [(str(number), text, label, words) for number, (text, label, words) in enumerate(rows)]


_SET = PublishedSet(
    name="sma",
    caller="fetch_social_media_attributions",
    columns=("id", "text", "label", "attrib_words"),
    labels=("0", "1"),
    splits=_SPLITS,
    # No checksum of this file has been published, so the converted rows are checked below.
    originals=(
        Original(
            "final_dataset.csv",
            "https://raw.githubusercontent.com/StepanTita/space-model/902a756f2883fbeba43bd475f59a4e9da0192571/data/final_dataset.csv",
        ),
    ),
    convert=_convert,
    # Checksums of the uncompressed files used in the benchmarks. They also detect a changed train_test_split.
    sha256={
        "train": "5f9324bed188f0b5b675221f1434b54e3d6fa8ecaf65fea6aa9640770c142529",
        "val": "c806f3fb6c97963538e022a390e87567ca9d6d22e0ab55e3983b779a811ac4fc",
        "test": "de57dc935d58a64a80a15f20ddbf7c14dc02677c398f91ed20819ca1a0602116",
    },
)
