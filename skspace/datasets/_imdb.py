"""IMDB, the Large Movie Review Dataset."""

from __future__ import annotations

import os
import random
import re
import tarfile
from pathlib import Path
from typing import Any

from skspace.datasets._download import Original
from skspace.datasets._published_set import PublishedSet, Rows, to_integers

__all__ = ["fetch_imdb"]

_SPLITS = ("train", "test")
_MEMBER = re.compile(r"aclImdb/(train|test)/(neg|pos)/([0-9]{1,6})_([0-9]{1,2})\.txt")
_MAX_BYTES = 1_000_000  # per review; the longest has about 14,000


def fetch_imdb(
    *,
    subset: str = "train",
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
) -> Any:
    """Load the IMDB movie reviews: 50,000 in two classes.

    English reviews of films, half of them positive (7 to 10 stars of 10),
    half negative (1 to 4 stars), with ``<br />`` tags kept. The division is
    the authors' own: 25,000 reviews for training and 25,000 for testing, without
    a validation part. The rows of each part are shuffled with a fixed seed, so
    the first rows contain both classes.

    Downloaded from the authors' page, 84 MB. They state no licence, and ask to
    be cited [1]_.

    The first call writes ``train.csv.gz`` and
    ``test.csv.gz`` to the folder ``imdb`` of the data home; later calls
    only read them.

    Parameters
    ----------
    subset : {"train", "test", "all"}, default="train"
        Which part to load; "all" is training and test reviews, in this
        order.
    data_home : str or path-like, default=None
        The folder of all data sets; this one is in its folder ``imdb``. None
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

        data : ndarray of str, shape (n_reviews,), dtype object
            The reviews. A Series named ``text`` if ``as_frame=True``.
        target : ndarray of str, shape (n_reviews,), dtype object
            The class of each review.
            A Series named ``label`` if ``as_frame=True``.
        target_names : list of str, length 2
            ``neg``, ``pos``.
        ids : ndarray of str, shape (n_reviews,), dtype object
            The file of the review, such as ``test/pos/9772_10``:
            split, class, number, stars.
        rating : ndarray of int, shape (n_reviews,)
            Stars, 1 to 4 or 7 to 10.
        frame : DataFrame of shape (n_reviews, 4) or None
            The columns ``id``, ``text``, ``label`` and ``rating``
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
    123 test reviews have the text of a training review; 96 training and 199
    test reviews repeat another of their part.

    References
    ----------
    .. [1] Maas, Daly, Pham, Huang, Ng and Potts (2011). "Learning Word Vectors
       for Sentiment Analysis." ACL 2011, pages 142-150.
       https://ai.stanford.edu/~amaas/data/sentiment/

    Examples
    --------
    >>> from skspace.datasets import fetch_imdb
    >>> reviews = fetch_imdb()  # doctest: +SKIP
    >>> reviews.data.shape  # doctest: +SKIP
    (25000,)
    """
    return _SET.fetch(subset, data_home, download_if_missing, return_X_y, as_frame, n_retries, delay)


def _convert(archive_file: Path) -> Rows:
    reviews = _read_reviews(archive_file)
    rows: Rows = {}
    for split in _SPLITS:
        # Sorted first, since the order within the archive is arbitrary.
        here = sorted(key for key in reviews if key[0] == split)
        # Shuffled, since the first half would be one class. The seed keeps results on the first n rows reproducible.
        random.Random(0).shuffle(here)  # noqa: S311 (not for cryptography)
        rows[split] = [
            (f"{split}/{label}/{number}_{rating}", reviews[split, label, number, rating], label, str(rating))
            for _, label, number, rating in here
        ]
    return rows


def _read_reviews(archive_file: Path) -> dict[tuple[str, str, int, int], str]:
    """Map (split, label, number, rating) to the text; archive members with other names are skipped."""
    reviews: dict[tuple[str, str, int, int], str] = {}
    with tarfile.open(archive_file, "r:gz") as archive:
        for member in archive:
            if (match := _MEMBER.fullmatch(member.name)) is None:
                continue
            split, label, number, rating = match.groups()
            key = (split, label, int(number), int(rating))
            if key in reviews:
                raise ValueError(f"expected each review once, got {member.name} twice")
            reviews[key] = _read_text(archive, member)
    return reviews


def _read_text(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    file = archive.extractfile(member) if member.isreg() and member.size <= _MAX_BYTES else None
    if file is None:
        raise ValueError(
            f"expected {member.name} to be a file of at most {_MAX_BYTES} bytes, got {member.size} bytes of tar type "
            f"{member.type!r}"
        )
    return file.read().decode("utf-8")


_SET = PublishedSet(
    name="imdb",
    caller="fetch_imdb",
    columns=("id", "text", "label", "rating"),
    labels=("neg", "pos"),
    splits=_SPLITS,
    originals=(
        Original(
            "aclImdb_v1.tar.gz",
            "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
            # tensorflow_datasets/url_checksums/imdb_reviews.txt of tensorflow/datasets at 333639b3, and
            # datasets/imdb/dataset_infos.json of huggingface/datasets at 040102f1.
            "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
        ),
    ),
    convert=_convert,
    arrays={"rating": to_integers},
)
