"""HateXplain: posts with labels and rationales of three annotators."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from skspace.datasets._download import Original
from skspace.datasets._published_set import PublishedSet, Rows, to_lists

__all__ = ["fetch_hatexplain"]

_LISTS = ("tokens", "rationale", "rationale_union", "rationales", "annotator_labels", "targets")
_SPLITS = ("train", "val", "test")
_SOURCE = "https://raw.githubusercontent.com/hate-alert/HateXplain/01d742279dac941981f53806154481c0e15ee686/Data"


def fetch_hatexplain(
    *,
    subset: str = "train",
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
) -> Any:
    """Load HateXplain: hateful, offensive and normal posts, with reasons.

    .. warning::
        The posts are offensive: they hold slurs and calls for violence.

    19,229 English posts from Twitter and Gab in three classes, each with the
    labels of three annotators. Annotators who saw hate or offence also marked
    the tokens that were their reason. The division is the authors' own: 15,383
    posts for training, 1,922 for validation, 1,924 for testing.

    Downloaded from the authors' repository, 13 MB, under the MIT licence.

    The first call writes ``train.csv.gz``, ``val.csv.gz`` and
    ``test.csv.gz`` to the folder ``hatexplain`` of the data home; later calls
    only read them.

    Parameters
    ----------
    subset : {"train", "val", "test", "all"}, default="train"
        Which part to load; "all" is training, validation and test posts,
        in this order.
    data_home : str or path-like, default=None
        The folder of all data sets; this one is in its folder ``hatexplain``.
        None means the environment variable ``SKSPACE_DATA`` or, if that is not set,
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

        data : ndarray of str, shape (n_posts,), dtype object
            The posts. A Series named ``text`` if ``as_frame=True``.
        target : ndarray of str, shape (n_posts,), dtype object
            The label that at least two annotators chose.
            A Series named ``label`` if ``as_frame=True``.
        target_names : list of str, length 3
            ``hatespeech``, ``normal``, ``offensive``.
        ids : ndarray of str, shape (n_posts,), dtype object
            Number and platform of the post, such as ``13851720_gab``.
        tokens : ndarray of list of str, shape (n_posts,), dtype object
            The words of each post. Lists "per token" below have the same length.
        rationale : ndarray of list of int, shape (n_posts,), dtype object
            Per token 1 if at least two annotators marked it, else 0; empty for
            normal posts.
        rationale_union : ndarray of list of int, shape (n_posts,), dtype object
            Per token 1 if any annotator marked it, else 0; empty for normal
            posts.
        rationales : ndarray of list of list of int, shape (n_posts,), dtype object
            For each annotator who marked tokens: per token 1 if marked, else 0.
        annotator_labels : ndarray of list of str, shape (n_posts,), dtype object
            The label of each annotator.
        targets : ndarray of list of list of str, shape (n_posts,), dtype object
            For each annotator, the groups of people that the post is about, such
            as ``Women``, or the str ``None``.
        frame : DataFrame of shape (n_posts, 9) or None
            The columns ``id``, ``text``, ``label`` and the six lists
            if ``as_frame=True``, else None.
        DESCR : str
            The full description of the data set, its licence and a warning.

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
    Files that this function did not write may lack rationales or targets:
    the entry is then None.

    References
    ----------
    .. [1] Mathew, Saha, Yimam, Biemann, Goyal and Mukherjee (2021).
       "HateXplain: A Benchmark Dataset for Explainable Hate Speech
       Detection." AAAI 2021, arXiv:2012.10289.
       https://github.com/hate-alert/HateXplain

    Examples
    --------
    >>> from skspace.datasets import fetch_hatexplain
    >>> posts = fetch_hatexplain(subset="val")  # doctest: +SKIP
    >>> posts.data.shape  # doctest: +SKIP
    (1922,)
    """
    return _SET.fetch(subset, data_home, download_if_missing, return_X_y, as_frame, n_retries, delay)


def _convert(posts_file: Path, divisions_file: Path) -> Rows:
    posts = json.loads(posts_file.read_text("utf-8"))
    divisions = json.loads(divisions_file.read_text("utf-8"))
    try:
        return _divide(posts, divisions)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"expected JSON as the authors describe it, got {type(error).__name__}: {error}") from error


def _divide(posts: dict[str, Any], divisions: dict[str, list[str]]) -> Rows:
    split_of = {post_id: split for split in _SPLITS for post_id in divisions[split]}
    if absent := split_of.keys() - posts:
        raise ValueError(f"expected every post of the divisions among the posts, got none named {min(absent)}")
    rows: Rows = {split: [] for split in _SPLITS}
    # Posts outside all splits are those on which no two annotators agree.
    for post_id, post in posts.items():
        if post_id in split_of:
            rows[split_of[post_id]].append(_row(post_id, post))
    return rows


def _row(post_id: str, post: dict[str, Any]) -> tuple[str, ...]:
    tokens, rationales = post["post_tokens"], post["rationales"]
    labels = [annotator["label"] for annotator in post["annotators"]]
    targets = [annotator["target"] for annotator in post["annotators"]]
    (label, n_votes), *_ = Counter(labels).most_common(1)
    if n_votes < 2:
        raise ValueError(f"expected two annotators to agree on the post {post_id}, got {labels}")
    # A post that most annotators call normal has no rationale, even if one annotator marked tokens.
    marks = [] if label == "normal" else [_count_marks(rationales, i) for i in range(len(tokens))]
    majority, union = [int(n >= 2) for n in marks], [int(n >= 1) for n in marks]
    lists = (tokens, majority, union, rationales, labels, targets)
    return post_id, " ".join(tokens), label, *(_json(value) for value in lists)


def _count_marks(rationales: list[list[int]], i: int) -> int:
    return sum(mask[i] for mask in rationales if i < len(mask))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


_SET = PublishedSet(
    name="hatexplain",
    caller="fetch_hatexplain",
    columns=("id", "text", "label", *_LISTS),
    labels=("hatespeech", "normal", "offensive"),
    splits=_SPLITS,
    # Checksums: datasets/hatexplain/dataset_infos.json of huggingface/datasets at 040102f1, where the files are those
    # of the same repository under its former name, punyajoy/HateXplain.
    originals=(
        Original(
            "dataset.json",
            f"{_SOURCE}/dataset.json",
            "63bb3340fee0ec469b09690d04cb68f7c187787dd8b83807f071892c084967fb",
        ),
        Original(
            "post_id_divisions.json",
            f"{_SOURCE}/post_id_divisions.json",
            "c2fb0d89862e7897b11ea3e9380753f15a793482b4b70ad0532dfb1212212835",
        ),
    ),
    convert=_convert,
    arrays=dict.fromkeys(_LISTS, to_lists),
)
