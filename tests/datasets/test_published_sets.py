"""The sets of the paper: found in a folder, or downloaded and converted. A server on this machine stands for theirs."""

import csv
import errno
import gzip
import hashlib
import io
import json
import os
import re
import sys
import tarfile
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from tqdm.auto import tqdm

from skspace._runtime import progress_bar
from skspace.datasets import (
    _csv_splits,
    _download,
    _hatexplain,
    _imdb,
    _social_media_attributions,
    fetch_hatexplain,
    fetch_imdb,
    fetch_social_media_attributions,
)

MODULES = {"hatexplain": _hatexplain, "imdb": _imdb, "sma": _social_media_attributions}
FETCH = {"hatexplain": fetch_hatexplain, "imdb": fetch_imdb, "sma": fetch_social_media_attributions}
SPLITS = {"hatexplain": ("train", "val", "test"), "imdb": ("train", "test"), "sma": ("train", "val", "test")}

# -------------------------------------------------------------------- originals, small


def tar(*members):
    """Members are (name, text) or a TarInfo, with or without bytes."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
        for member in members:
            info, content = member if isinstance(member, tuple) else (member, b"")
            if isinstance(info, str):
                content = content.encode("utf-8")
                info = tarfile.TarInfo(info)
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


REVIEWS = [
    ("aclImdb/README", "not a review"),
    ("aclImdb/train/unsup/1_0.txt", "not labelled"),
    ("aclImdb/train/pos/10_9.txt", 'Grand, "really"<br /><br />Déjà vu '),
    ("aclImdb/train/pos/9_10.txt", "None"),
    ("aclImdb/train/neg/0_1.txt", "Dull,\r\nand long."),
    ("aclImdb/test/neg/3_4.txt", "So so."),
    ("aclImdb/test/pos/2_7.txt", "Fine."),
]


def post(tokens, labels, rationales=(), targets=None):
    annotators = [
        {"label": label, "annotator_id": i, "target": (targets or {}).get(i, ["None"])}
        for i, label in enumerate(labels)
    ]
    return {"annotators": annotators, "rationales": list(rationales), "post_tokens": tokens.split()}


N, H, OFF = "normal", "hatespeech", "offensive"
POSTS = {
    "1_gab": post("a bad word 🤔", [H, H, OFF], [[0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0]], {0: ["Women", "Men"]}),
    "2_gab": post("all fine", [N, N, N]),
    "3_twitter": post("nobody agrees", [N, H, OFF], [[1, 0], [1, 0]]),
    "4_twitter": post("meh <user>", [OFF, OFF, N], [[1, 0], [0, 1]]),
    "5_gab": post("quite fine", [N, OFF, N], [[1, 0]]),
}
DIVISIONS = {"test": ["4_twitter"], "train": ["2_gab", "1_gab"], "val": ["5_gab"]}


def sentences(n=10):
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["sentences", "attribution", "attrib_words"])
    writer.writerows((f" sentence {i}\r\nin two lines ", i % 2, f"cause {i % 3}") for i in range(n))
    return file.getvalue().encode("utf-8")


def originals(name):
    return {
        "hatexplain": {
            "dataset.json": json.dumps(POSTS).encode(),
            "post_id_divisions.json": json.dumps(DIVISIONS).encode(),
        },
        "imdb": {"aclImdb_v1.tar.gz": tar(*REVIEWS)},
        "sma": {"final_dataset.csv": sentences()},
    }[name]


# -------------------------------------------------------------------- the server


class Server(ThreadingHTTPServer):
    """Answers with what ``answers[path]`` holds: (status, bytes, bytes that are promised beyond these)."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.requests = {}, []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        answers = self.server.answers.get(self.path, [(404, b"", 0)])
        status, content, more = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) + more))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No data but those of the test, no proxy in between, and no waiting."""
    monkeypatch.delenv("SKSPACE_DATA", raising=False)
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "default"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(_download.time, "sleep", lambda seconds: waits.append(seconds))
    waits = []
    return waits


@pytest.fixture
def serve(server, monkeypatch):
    """Put files, by default the small originals of a set, on the server and make the set come from there."""

    def put(name, files=None, url=server.url):
        files = originals(name) if files is None else files
        module = MODULES[name]
        server.answers |= {f"/{file}": [(200, content, 0)] for file, content in files.items()}
        local = [
            replace(original, url=f"{url}/{original.name}", sha256=sha256(files[original.name]))
            for original in module._SET.originals
        ]
        monkeypatch.setattr(module, "_SET", replace(module._SET, originals=tuple(local), sha256={}))
        return FETCH[name]

    return put


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def tidy_files(name):
    return sorted(f"{name}/{split}.csv.gz" for split in SPLITS[name])


every_set = pytest.mark.parametrize("name", MODULES)

# -------------------------------------------------------------------- what is loaded


@every_set
def test_downloads_once_and_leaves_the_tidy_form_only(serve, server, tmp_path, name):
    fetch = serve(name)
    first = fetch(data_home=tmp_path / "new" / "home")
    assert sorted(server.requests) == sorted(f"/{file}" for file in originals(name))
    assert tree(tmp_path) == [f"new/home/{file}" for file in tidy_files(name)]
    assert list(tmp_path.rglob(".*")) == []
    server.requests.clear()
    again = fetch(data_home=str(tmp_path / "new" / "home"), download_if_missing=False)
    assert server.requests == []
    assert first.data.tolist() == again.data.tolist()


def test_a_bar_shows_how_far_a_download_is(serve, server, tmp_path, monkeypatch):
    lines = io.StringIO()

    class Shown(progress_bar.Bar):
        def __init__(self, total, desc, unit):
            tqdm.__init__(self, total=total, desc=desc, unit=unit, unit_scale=True, file=lines, mininterval=0)

    monkeypatch.setattr(progress_bar, "Bar", Shown)
    serve("imdb")(data_home=tmp_path)
    (name,) = originals("imdb")
    assert f"Downloading {name}: 100%" in lines.getvalue()
    [(_, content, _)] = server.answers[f"/{name}"]
    assert f"/{len(content)}" in lines.getvalue().replace(".00", "")  # of so many bytes


def test_a_download_is_silent_where_nobody_looks(serve, tmp_path, capfd):
    serve("imdb")(data_home=tmp_path)
    assert capfd.readouterr() == ("", "")


def test_what_a_killed_process_left_is_removed_a_day_later(serve, tmp_path):
    old, new, link = (tmp_path / "imdb" / f".being-made-{name}" for name in ("old", "new", "link"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").touch()
    for work in (old, new):
        work.mkdir(parents=True)
        (work / "half.tar.gz").touch()
    link.symlink_to(tmp_path / "elsewhere")
    for path in (old, link):
        os.utime(path, (1e9, 1e9), follow_symlinks=False)
    serve("imdb")(data_home=tmp_path)
    assert not old.exists()
    assert (new / "half.tar.gz").exists()  # perhaps at work
    assert (tmp_path / "elsewhere" / "file").exists()


def test_imdb(serve, tmp_path):
    train = serve("imdb")(data_home=tmp_path)
    rows = {row[0]: row[1:] for row in zip(train.ids, train.data, train.target, train.rating, strict=True)}
    assert rows == {
        "train/pos/10_9": ('Grand, "really"<br /><br />Déjà vu ', "pos", 9),
        "train/pos/9_10": ("None", "pos", 10),
        "train/neg/0_1": ("Dull,\r\nand long.", "neg", 1),
    }
    assert train.rating.dtype == np.int64
    assert train.target_names == ["neg", "pos"]
    assert train.frame is None
    test = fetch_imdb(subset="test", data_home=tmp_path)
    both = fetch_imdb(subset="all", data_home=tmp_path)
    assert both.ids.tolist() == train.ids.tolist() + test.ids.tolist()
    assert both.rating.tolist() == train.rating.tolist() + test.rating.tolist()


def test_imdb_order_is_that_of_numbers_shuffled_with_a_fixed_seed(serve, tmp_path):
    members = [(f"aclImdb/{split}/pos/{n}_8.txt", f"review {n}") for split in ("train", "test") for n in range(20)]
    one = serve("imdb", {"aclImdb_v1.tar.gz": tar(*members)})(data_home=tmp_path / "1")
    other = serve("imdb", {"aclImdb_v1.tar.gz": tar(*members[::-1])})(data_home=tmp_path / "2")
    assert one.ids.tolist() == other.ids.tolist() != [f"train/pos/{n}_8" for n in range(20)]
    assert one.data.tolist()[:4] == ["review 10", "review 18", "review 16", "review 14"]


def test_hatexplain(serve, tmp_path):
    train = serve("hatexplain")(data_home=tmp_path)
    assert train.ids.tolist() == ["1_gab", "2_gab"]  # the order of the posts, not of the divisions
    assert train.data.tolist() == ["a bad word 🤔", "all fine"]
    assert train.target.tolist() == [H, N]
    assert train.target_names == [H, N, OFF]
    assert train.tokens.tolist() == [["a", "bad", "word", "🤔"], ["all", "fine"]]
    assert train.rationale.tolist() == [[0, 0, 1, 0], []]
    assert train.rationale_union.tolist() == [[0, 1, 1, 0], []]
    assert train.rationales.tolist() == [[[0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0]], []]
    assert train.annotator_labels.tolist() == [[H, H, OFF], [N, N, N]]
    assert train.targets.tolist() == [[["Women", "Men"], ["None"], ["None"]], [["None"]] * 3]
    rest = fetch_hatexplain(subset="all", data_home=tmp_path)
    assert rest.ids.tolist() == ["1_gab", "2_gab", "5_gab", "4_twitter"]
    assert rest.rationale.tolist()[2:] == [[], [0, 0]]
    assert rest.rationale_union.tolist()[2:] == [[], [1, 1]]
    assert rest.rationales.tolist()[2] == [[1, 0]]


def test_hatexplain_lists_may_be_unknown(tmp_path):
    lists = {"tokens": '["a"]', "rationale": "", "rationale_union": "[1]", "rationales": "", "annotator_labels": "[]"}
    write(tmp_path / "hatexplain/test.csv.gz", {"id": "1", "text": "a", "label": H, **lists, "targets": ""})
    posts = fetch_hatexplain(subset="test", data_home=tmp_path)
    assert posts.rationale.tolist() == posts.rationales.tolist() == posts.targets.tolist() == [None]
    assert posts.rationale_union.tolist() == [[1]]


def test_social_media_attributions(serve, tmp_path):
    fetch = serve("sma")
    parts = {split: fetch(subset=split, data_home=tmp_path) for split in SPLITS["sma"]}
    # train_test_split(random_state=42) of 10 rows, and of the 2 that are left.
    assert parts["train"].ids.tolist() == ["5", "0", "7", "2", "9", "4", "3", "6"]
    assert parts["test"].ids.tolist() + parts["val"].ids.tolist() == ["8", "1"]
    assert parts["train"].data[0] == " sentence 5\r\nin two lines "
    assert parts["train"].target.tolist() == ["1", "0", "1", "0", "1", "0", "1", "0"]
    assert parts["train"].attrib_words[0] == "cause 2"
    assert parts["train"].target_names == ["0", "1"]


@every_set
def test_frames_and_pairs(serve, tmp_path, name):
    pd = pytest.importorskip("pandas")
    fetch = serve(name)
    bunch, framed = (fetch(data_home=tmp_path, as_frame=as_frame) for as_frame in (False, True))
    assert isinstance(framed.data, pd.Series)
    assert framed.data.name == "text"
    assert framed.target.name == "label"
    assert framed.frame.columns.tolist() == list(MODULES[name]._SET.columns)
    assert {str(framed.frame[column].dtype) for column in ("id", "text", "label")} == {"object"}
    for column in framed.frame.columns[3:]:
        assert framed.frame[column].tolist() == bunch[column].tolist()
    for as_frame in (False, True):
        X, y = fetch(data_home=tmp_path, as_frame=as_frame, return_X_y=True)
        assert isinstance(X, pd.Series) is as_frame
        assert X.tolist() == bunch.data.tolist()
        assert y.tolist() == bunch.target.tolist()


@every_set
def test_pandas_is_for_frames_and_pooch_for_downloads_only(serve, tmp_path, monkeypatch, name):
    fetch = serve(name)
    fetch(data_home=tmp_path)
    for library in ("pandas", "pooch", "requests"):
        monkeypatch.setitem(sys.modules, library, None)
    fetch(data_home=tmp_path)
    with pytest.raises(ImportError, match=rf"{fetch.__name__}\(as_frame=True\) needs pandas.*'skspace\[datasets\]'"):
        fetch(data_home=tmp_path, as_frame=True)
    with pytest.raises(
        ImportError, match=r"needs pooch.*pip install 'skspace\[datasets\]'.*avoid the download, save http"
    ):
        fetch(data_home=tmp_path / "empty")


@every_set
def test_descriptions(serve, tmp_path, name):
    descr = serve(name)(data_home=tmp_path).DESCR
    assert re.search(r"\*\*Licence\*\*\n\n(MIT|None is stated)", descr)
    assert ("offensive. They hold slurs" in descr) is (name == "hatexplain")


@every_set
def test_sources_are_pinned(name):
    dataset = MODULES[name]._SET
    for original in dataset.originals:
        assert re.match(
            r"https://(ai\.stanford\.edu|raw\.githubusercontent\.com/[\w-]+/[\w-]+/[0-9a-f]{40})/", original.url
        )
        assert original.url.endswith("/" + original.name)
        # A file without a checksum is one whose tidy form has them.
        checksums = [original.sha256] if original.sha256 else [dataset.sha256[split] for split in dataset.splits]
        assert all(re.fullmatch(r"[0-9a-f]{64}", checksum) for checksum in checksums)


# -------------------------------------------------------------------- where it is looked for


def write(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def review(text="good", label="pos", rating="9"):
    return {"id": "train/pos/0_9", "text": text, "label": label, "rating": rating}


def test_data_home_then_variable_then_scikit_learns_home(tmp_path, monkeypatch):
    for folder in ("given", "variable", "default/skspace", "home/scikit_learn_data/skspace"):
        write(tmp_path / folder / "imdb/train.csv.gz", review(text=folder))
    assert fetch_imdb().data.tolist() == ["default/skspace"]
    monkeypatch.setenv("SKSPACE_DATA", str(tmp_path / "variable"))
    assert fetch_imdb().data.tolist() == ["variable"]
    assert fetch_imdb(data_home=tmp_path / "given").data.tolist() == ["given"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fetch_imdb(data_home="~/given").data.tolist() == ["given"]
    monkeypatch.setenv("SKSPACE_DATA", "")
    monkeypatch.delenv("SCIKIT_LEARN_DATA")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert fetch_imdb().data.tolist() == ["home/scikit_learn_data/skspace"]


def test_default_is_a_folder_in_scikit_learns(monkeypatch, tmp_path):
    from sklearn.datasets import get_data_home

    assert _csv_splits.find_data_home(None) == Path(get_data_home()) / "skspace"


def test_downloads_to_the_variable(serve, tmp_path, monkeypatch):
    monkeypatch.setenv("SKSPACE_DATA", str(tmp_path / "variable"))
    serve("sma")()
    assert tree(tmp_path) == [f"variable/{file}" for file in tidy_files("sma")]


def test_only_the_wanted_split_must_be_there(tmp_path):
    write(tmp_path / "imdb/train.csv.gz", review())
    assert fetch_imdb(data_home=tmp_path, download_if_missing=False).data.tolist() == ["good"]
    with pytest.raises(OSError, match=r"imdb/test\.csv\.gz, which does not exist"):
        fetch_imdb(subset="all", data_home=tmp_path, download_if_missing=False)


def test_what_is_there_is_not_written_over(serve, tmp_path):
    write(tmp_path / "imdb/train.csv.gz", review(text="mine"))
    assert serve("imdb")(subset="test", data_home=tmp_path).data.size == 2
    assert fetch_imdb(data_home=tmp_path).data.tolist() == ["mine"]


def test_columns_in_any_order_and_more_of_them(tmp_path):
    write(tmp_path / "imdb/train.csv.gz", {"note": "x"} | dict(reversed(review().items())))
    bunch = fetch_imdb(data_home=tmp_path)
    assert (bunch.ids[0], bunch.data[0], bunch.target[0], bunch.rating[0]) == ("train/pos/0_9", "good", "pos", 9)


@every_set
def test_missing_and_not_to_be_downloaded(serve, server, tmp_path, name):
    fetch = serve(name)
    place = re.escape(str(tmp_path / name))
    names = " and ".join(rf"{server.url}/{file} as {place}/{file}" for file in originals(name))
    expected = (
        rf"Expected the file {place}/train\.csv\.gz, which does not exist, and download_if_missing=False\. .*"
        rf"avoid the download, save {names}, or .*SKSPACE_DATA"
    )
    with pytest.raises(OSError, match=expected):
        fetch(data_home=tmp_path, download_if_missing=False)
    assert server.requests == []
    assert list(tmp_path.iterdir()) == []


@every_set
def test_originals_put_there_by_hand(serve, server, tmp_path, name):
    fetch = serve(name)
    for file, content in originals(name).items():
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / file).write_bytes(content)
    fetch(data_home=tmp_path)
    assert server.requests == []
    assert tree(tmp_path) == sorted([*tidy_files(name), *(f"{name}/{file}" for file in originals(name))])


def test_wrong_original_put_there_by_hand(serve, server, tmp_path):
    fetch = serve("imdb")
    (tmp_path / "imdb").mkdir()
    (tmp_path / "imdb" / "aclImdb_v1.tar.gz").write_bytes(b"another")
    expected = r"imdb/aclImdb_v1\.tar\.gz: expected the sha256 \w{64}, got \w{64} of 7 bytes\. Delete it or save http"
    with pytest.raises(OSError, match=expected):
        fetch(data_home=tmp_path)
    assert server.requests == []


# -------------------------------------------------------------------- downloads that fail


def fails(fetch, tmp_path, reason, **options):
    """The download fails for a reason, says what to do, and leaves nothing."""
    expected = (
        rf"Expected to download http\S+, got: .*{reason}.*"
        rf"avoid the download, save http\S+ as {re.escape(str(tmp_path))}/.*SKSPACE_DATA"
    )
    with pytest.raises(OSError, match=expected) as info:
        fetch(data_home=tmp_path, **options)
    assert tree(tmp_path) == []
    return info.value


def test_not_found_is_not_asked_for_again(serve, server, tmp_path):
    fetch = serve("imdb")
    server.answers.clear()
    fails(fetch, tmp_path, "404 Client Error")
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_servers_error_passes(serve, server, alone, tmp_path, status):
    fetch = serve("imdb")
    server.answers["/aclImdb_v1.tar.gz"].insert(0, (status, b"", 0))
    with pytest.warns(UserWarning, match=rf"Downloading http\S+ again in 0\.5 s, after: {status}"):
        assert fetch(data_home=tmp_path, delay=0.5).data.size == 3
    assert len(server.requests) == 2
    assert alone == [0.5]


def test_servers_error_stays(serve, server, alone, tmp_path):
    fetch = serve("imdb")
    server.answers["/aclImdb_v1.tar.gz"] = [(500, b"", 0)]
    with pytest.warns(UserWarning, match="again"):
        fails(fetch, tmp_path, "500 Server Error", n_retries=2, delay=3)
    assert len(server.requests) == 3
    assert alone == [3, 3]


@pytest.mark.parametrize("with_checksum", [True, False])
def test_connection_is_cut(serve, server, tmp_path, monkeypatch, with_checksum):
    fetch = serve("imdb")
    if not with_checksum:
        originals = [replace(original, sha256=None) for original in _imdb._SET.originals]
        monkeypatch.setattr(_imdb, "_SET", replace(_imdb._SET, originals=tuple(originals)))
    [whole] = server.answers["/aclImdb_v1.tar.gz"]
    cut = (200, whole[1][:50], 1000)
    server.answers["/aclImdb_v1.tar.gz"] = [cut]
    fails(fetch, tmp_path, "IncompleteRead", n_retries=0)
    server.answers["/aclImdb_v1.tar.gz"] = [cut, cut, whole]
    with pytest.warns(UserWarning, match="again"):
        assert fetch(data_home=tmp_path).data.size == 3


def test_wrong_checksum(serve, server, tmp_path):
    fetch = serve("imdb")
    server.answers["/aclImdb_v1.tar.gz"] = [(200, tar(*REVIEWS[:3]), 0)]
    with pytest.warns(UserWarning, match="again"):
        fails(fetch, tmp_path, r"expected the sha256 \w{64}, got \w{64} of \d+ bytes", n_retries=1)
    assert len(server.requests) == 2


def test_no_server(serve, server, tmp_path):
    with Server() as closed:
        pass
    fails(serve("imdb", url=closed.url), tmp_path, "Connection refused", n_retries=0)


def test_no_network(serve, network, tmp_path):
    with pytest.warns(UserWarning, match="again"):
        fails(serve("imdb"), tmp_path, "the tests have no network", n_retries=1)
    assert len(network) == 2


def test_second_of_two_files_fails(serve, server, tmp_path):
    fetch = serve("hatexplain")
    del server.answers["/post_id_divisions.json"]
    fails(fetch, tmp_path, r"404 Client Error.* \S+/post_id_divisions\.json\. ")


def test_no_space_for_the_download(serve, server, tmp_path, monkeypatch):
    import pooch

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    fetch = serve("imdb")
    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", full)
    error = fails(fetch, tmp_path, "No space left on device")
    assert error.__cause__.errno == errno.ENOSPC


# -------------------------------------------------------------------- writing that fails


@contextmanager
def small_files_only(n_bytes):
    """A limit that the kernel sets: writing a larger file fails, as on a full disk.

    Not in a fixture: pytest's own report may go to a file that is larger, and is written before a fixture ends.
    """
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_no_space_for_the_tidy_form(serve, tmp_path):
    numbers = np.random.default_rng(0).integers(0, 10, (2, 200)).astype(str)
    members = [
        (f"aclImdb/{split}/pos/0_8.txt", "".join(digits)) for split, digits in zip(SPLITS["imdb"], numbers, strict=True)
    ]
    content = tar(*members)
    fetch = serve("imdb", {"aclImdb_v1.tar.gz": content})
    (tmp_path / "imdb").mkdir()
    (tmp_path / "imdb" / "aclImdb_v1.tar.gz").write_bytes(content)
    place = re.escape(str(tmp_path / "imdb"))
    message = rf"Expected to write train, test to {place}, got .*File too large.*Free disk space"
    with pytest.raises(OSError, match=message), small_files_only(100):
        fetch(data_home=tmp_path)
    assert tree(tmp_path) == ["imdb/aclImdb_v1.tar.gz"]


def test_folder_that_cannot_be_written_to(serve, tmp_path):
    (tmp_path / "file").touch()
    expected = r"Expected a writable folder, got \S+/file/imdb: .*data_home= or .*SKSPACE_DATA to a folder"
    with pytest.raises(OSError, match=expected):
        serve("imdb")(data_home=tmp_path / "file")


@every_set
@pytest.mark.parametrize("n_moved", [0, 1])
def test_interrupted_conversion(serve, server, tmp_path, monkeypatch, name, n_moved):
    def interrupt(source, target):
        if len(moved) == n_moved:
            raise KeyboardInterrupt
        moved.append(target)
        move(source, target)

    moved, move = [], os.replace
    fetch = serve(name)
    with monkeypatch.context() as context:
        context.setattr(os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch(data_home=tmp_path)
    assert tree(tmp_path) == [str(path.relative_to(tmp_path)) for path in moved]
    for path in moved:  # what is there is whole
        assert fetch(subset=path.name.split(".")[0], data_home=tmp_path, download_if_missing=False).data.size
    assert fetch(subset="all", data_home=tmp_path).data.size
    assert tree(tmp_path) == tidy_files(name)


def test_several_at_once(serve, tmp_path):
    fetch = serve("imdb")
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(fetch, subset="all", data_home=tmp_path) for _ in range(8)]
    assert {tuple(call.result().ids) for call in calls} == {tuple(fetch(subset="all", data_home=tmp_path).ids)}
    assert tree(tmp_path) == tidy_files("imdb")


def test_equal_bytes(serve, tmp_path):
    fetch = serve("imdb")
    for folder in ("1", "2"):
        fetch(data_home=tmp_path / folder)
    one, other = ((tmp_path / folder / "imdb/train.csv.gz").read_bytes() for folder in ("1", "2"))
    assert one == other
    assert one[4:8] == bytes(4)  # no time


# -------------------------------------------------------------------- originals that are damaged, or meant to do damage


def refused(fetch, tmp_path, reason):
    with pytest.raises(ValueError, match=rf"Expected .* from http.* to be as published, got {reason}.*SKSPACE_DATA"):
        fetch(data_home=tmp_path / "home")
    assert tree(tmp_path) == []


def link(kind, target):
    info = tarfile.TarInfo("aclImdb/train/pos/7_7.txt")
    info.type, info.linkname = kind, target
    return info


TAR_MEMBERS = {
    "symlink": (link(tarfile.SYMTYPE, "/etc/passwd"), "ValueError: expected aclImdb/train/pos/7_7.txt to be a file of"),
    "hard link": (link(tarfile.LNKTYPE, "aclImdb/README"), "ValueError: expected .* got 0 bytes of tar type b'1'"),
    "device": (link(tarfile.CHRTYPE, ""), "ValueError: expected .* of tar type b'3'"),
    "folder": (link(tarfile.DIRTYPE, ""), "ValueError: expected .* of tar type b'5'"),
    "huge": (
        ("aclImdb/train/pos/7_7.txt", "x" * 1_000_001),
        "ValueError: expected .* 1000000 bytes, got 1000001 bytes",
    ),
    "twice": (REVIEWS[3], "ValueError: expected each review once, got aclImdb/train/pos/9_10.txt twice"),
    "same number": (("aclImdb/train/pos/09_10.txt", "x"), "ValueError: expected each review once"),
    "no UTF-8": ((tarfile.TarInfo("aclImdb/train/pos/7_7.txt"), b"\xff"), "UnicodeDecodeError: "),
}
TAR_MEMBERS["no UTF-8"][0][0].size = 1


@pytest.mark.parametrize("case", TAR_MEMBERS)
def test_tar_members_that_are_refused(serve, tmp_path, case):
    member, reason = TAR_MEMBERS[case]
    refused(serve("imdb", {"aclImdb_v1.tar.gz": tar(*REVIEWS, member)}), tmp_path, reason)


def test_tar_members_of_other_names_are_left_alone(serve, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    names = [
        "../evil.txt",
        "aclImdb/train/pos/../../../../evil_1.txt",
        f"{tmp_path}/evil.txt",
        "./aclImdb/train/pos/7_7.txt",
        "/aclImdb/train/pos/7_7.txt",
        "aclImdb/train/pos/7_7.txt/7_7.txt",
        "aclImdb/train/pos/7_7.txt\n",
        "aclImdb/train/pos/٧_7.txt",
        "aclImdb/valid/pos/7_7.txt",
    ]
    evil = [(name, "evil") for name in names] + [("aclImdb/imdb.vocab", "x" * 2_000_000)]
    fetch = serve("imdb", {"aclImdb_v1.tar.gz": tar(*REVIEWS, *evil)})
    assert "evil" not in fetch(subset="all", data_home=tmp_path / "home").data.tolist()
    assert tree(tmp_path) == [f"home/{file}" for file in tidy_files("imdb")]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: b"no tar", "ReadError: "),
        (lambda content: gzip.compress(b"no tar"), "ReadError: "),
        (lambda content: content[: len(content) // 2], "(EOFError|ReadError): "),
        (lambda content: content[:20] + bytes(20) + content[40:], "(error|ReadError|BadGzipFile|EOFError): "),
    ],
)
def test_no_tar(serve, tmp_path, damage, reason):
    refused(serve("imdb", {"aclImdb_v1.tar.gz": damage(tar(*REVIEWS))}), tmp_path, reason)


BAD_POSTS = {
    "cut": (json.dumps(POSTS)[:-5], "JSONDecodeError: "),
    "no UTF-8": (b"\xff", "UnicodeDecodeError: "),
    "list": (list(POSTS), "ValueError: expected JSON as the authors describe it, got AttributeError: "),
    "deep": ("[" * 100_000, "RecursionError: "),
    "no tokens": (
        POSTS | {"1_gab": {"annotators": [], "rationales": []}},
        "ValueError: expected JSON .* KeyError: 'post_tokens'",
    ),
    "tokens of other types": (
        POSTS | {"1_gab": POSTS["1_gab"] | {"post_tokens": [1]}},
        "ValueError: expected JSON .* TypeError: ",
    ),
    "nobody": (POSTS | {"1_gab": post("a", [])}, "ValueError: "),
    "marks of other types": (POSTS | {"1_gab": post("a", [H, H, H], [3])}, "ValueError: expected JSON .* TypeError: "),
    "no post": (
        {"1_gab": POSTS["1_gab"]},
        "ValueError: expected every post .* got none named 2_gab",
    ),
    "undecided": (
        POSTS | {"1_gab": post("a", [N, H, OFF])},
        "ValueError: expected two annotators to agree on the post 1_gab",
    ),
}


@pytest.mark.parametrize("case", BAD_POSTS)
def test_malformed_posts(serve, tmp_path, case):
    content, reason = BAD_POSTS[case]
    if not isinstance(content, bytes):
        content = (content if isinstance(content, str) else json.dumps(content)).encode()
    refused(serve("hatexplain", originals("hatexplain") | {"dataset.json": content}), tmp_path, reason)


@pytest.mark.parametrize(
    ("divisions", "reason"),
    [
        ({"train": []}, "ValueError: expected JSON .* KeyError: 'val'"),
        (["train"], "ValueError: expected JSON .* TypeError: "),
        ({"train": 1}, "ValueError: expected JSON .* TypeError: "),
    ],
)
def test_malformed_divisions(serve, tmp_path, divisions, reason):
    files = originals("hatexplain") | {"post_id_divisions.json": json.dumps(divisions).encode()}
    refused(serve("hatexplain", files), tmp_path, reason)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "ValueError: "),
        (b"<html>", "ValueError: expected the columns sentences, attribution, attrib_words, got <html>"),
        (b"sentences,attribution,attrib_words\na,1\n", "ValueError: "),
        (b'sentences,attribution,attrib_words\n"a,1,b\n', "Error: unexpected end of data"),
        (sentences()[:-3] + b"\xff", "UnicodeDecodeError: "),
    ],
)
def test_malformed_sentences(serve, tmp_path, content, reason):
    refused(serve("sma", {"final_dataset.csv": content}), tmp_path, reason)


def test_sentences_other_than_published(serve, tmp_path, monkeypatch):
    published = _social_media_attributions._SET.sha256
    fetch = serve("sma")
    module = _social_media_attributions
    monkeypatch.setattr(module, "_SET", replace(module._SET, sha256=published))
    refused(fetch, tmp_path, rf"ValueError: expected train to have the sha256 {published['train']}, got \w{{64}}")


# -------------------------------------------------------------------- a tidy form that is damaged


def packed(text):
    return gzip.compress(text if isinstance(text, bytes) else text.encode())


HEADER = "id,text,label,rating\n"
BAD_TIDY = {
    "no gzip": (b"id,text", "BadGzipFile: "),
    "cut": (packed(HEADER + "1,good,pos,9\n" * 9)[:-9], "EOFError: "),
    "flipped": (packed("")[:10] + b"\xff" * 9, "error: "),
    "empty": (packed(""), "ValueError: expected the columns id, text, label, rating, got an empty file"),
    "columns": (
        packed("id,text,label\n1,good,pos\n"),
        "ValueError: expected the columns id, text, label, rating, got id",
    ),
    "cells": (packed(HEADER + "1,good,pos,9\n2,bad,neg\n"), "ValueError: expected 4 cells in row 2, got 3"),
    "quotes": (packed(HEADER + '1,"good,pos,9\n'), "Error: unexpected end of data"),
    "large": (packed(HEADER + f"1,{'x' * 200_000},pos,9\n"), "Error: field larger than"),
    "label": (packed(HEADER + "1,good,fine,9\n"), "ValueError: expected the labels neg, pos, got 'fine'"),
    "rating": (packed(HEADER + "1,good,pos,many\n"), "ValueError: invalid literal"),
    "no UTF-8": (packed(HEADER.encode() + b"1,\xff,pos,9\n"), "UnicodeDecodeError: "),
}


@pytest.mark.parametrize("case", BAD_TIDY)
def test_damaged_tidy_form(serve, server, tmp_path, case):
    content, reason = BAD_TIDY[case]
    path = tmp_path / "imdb" / "train.csv.gz"
    path.parent.mkdir()
    path.write_bytes(content)
    fetch = serve("imdb")
    expected = rf"{re.escape(str(path))} is damaged: {reason}.*Delete it.* again from {server.url}/.*SKSPACE_DATA"
    with pytest.raises(ValueError, match=expected):
        fetch(data_home=tmp_path)
    assert path.read_bytes() == content
    path.unlink()
    assert fetch(data_home=tmp_path).data.size == 3


def test_damaged_lists(tmp_path):
    lists = dict.fromkeys(_hatexplain._LISTS, "[]")
    write(tmp_path / "hatexplain/train.csv.gz", {"id": "1", "text": "a", "label": H} | lists | {"targets": "[[}"})
    with pytest.raises(ValueError, match=r"hatexplain/train\.csv\.gz is damaged: JSONDecodeError"):
        fetch_hatexplain(data_home=tmp_path)


# -------------------------------------------------------------------- parameters


@every_set
def test_parameters(name):
    fetch = FETCH[name]
    known = ", ".join(repr(split) for split in (*SPLITS[name], "all"))
    for subset in ("valid", None, ["train"]):
        with pytest.raises(ValueError, match=re.escape(f"subset must be one of {known}, got {subset!r}.")):
            fetch(subset=subset)
    for switch in ("download_if_missing", "return_X_y", "as_frame"):
        with pytest.raises(TypeError, match=f"{switch} must be True or False, got 'auto'"):
            fetch(**{switch: "auto"})
    for n_retries in (-1, 1.5, True, None):
        with pytest.raises(ValueError, match=f"n_retries must be an int of at least 0, got {n_retries}"):
            fetch(n_retries=n_retries)
    for delay in (-1, float("nan"), float("inf"), True, "1"):
        with pytest.raises(ValueError, match=f"delay must be a finite number of seconds of at least 0, got {delay!r}"):
            fetch(delay=delay)
    with pytest.raises(TypeError, match="data_home must be a path or None, got 1"):
        fetch(data_home=1)
    with pytest.raises(TypeError, match="positional"):
        fetch("train")


# -------------------------------------------------------------------- the real sets

COUNTS = {
    ("hatexplain", "train"): {N: 6251, H: 4748, OFF: 4384},
    ("hatexplain", "val"): {N: 781, H: 593, OFF: 548},
    ("hatexplain", "test"): {N: 782, H: 594, OFF: 548},
    ("imdb", "train"): {"pos": 12500, "neg": 12500},
    ("imdb", "test"): {"pos": 12500, "neg": 12500},
    ("sma", "train"): {"0": 3149, "1": 1350},
    ("sma", "val"): {"0": 391, "1": 172},
    ("sma", "test"): {"0": 393, "1": 169},
}


@pytest.fixture
def real(data_folder):
    def load(name, split):
        if not (data_folder / name / f"{split}.csv.gz").exists():
            pytest.skip(f"SKSPACE_DATA has no {name}/{split}.csv.gz")
        return FETCH[name](subset=split, data_home=data_folder, download_if_missing=False)

    return load


@pytest.mark.parametrize(("name", "split"), COUNTS)
def test_real_counts(real, name, split):
    bunch = real(name, split)
    assert Counter(bunch.target) == COUNTS[name, split]
    assert len(set(bunch.ids)) == bunch.data.size


def converted(data_folder, serve, tmp_path, name, files, splits):
    """The tidy files made anew are those that are there, byte for byte."""
    fetch = serve(name, files)
    for split in splits:
        fetch(subset=split, data_home=tmp_path)
        one, other = (
            gzip.decompress((home / name / f"{split}.csv.gz").read_bytes()) for home in (tmp_path, data_folder)
        )
        assert one == other


def test_real_posts_converted(real, data_folder, serve, tmp_path):
    posts, divisions = {}, {"train": []}
    for split in ("val", "test"):
        bunch = real("hatexplain", split)
        divisions[split] = bunch.ids[::-1].tolist()
        columns = (bunch.ids, bunch.data, bunch.annotator_labels, bunch.rationales, bunch.targets)
        for post_id, text, labels, rationales, targets in zip(*columns, strict=True):
            posts[post_id] = post(text, labels, rationales, dict(enumerate(targets)))
    files = {"dataset.json": json.dumps(posts).encode(), "post_id_divisions.json": json.dumps(divisions).encode()}
    converted(data_folder, serve, tmp_path, "hatexplain", files, ("val", "test"))


def test_real_sentences_converted(real, serve, tmp_path, monkeypatch):
    columns = ("ids", "data", "target", "attrib_words")
    rows = [row for split in SPLITS["sma"] for row in zip(*(real("sma", split)[name] for name in columns), strict=True)]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["sentences", "attribution", "attrib_words"])
    writer.writerows(row[1:] for row in sorted(rows, key=lambda row: int(row[0])))
    content = file.getvalue()
    # As many characters and lines as the authors' file has.
    assert (len(content), content.count("\n")) == (625_958, 5_703)
    published = _social_media_attributions._SET.sha256
    files = {"final_dataset.csv": content.encode()}
    fetch = serve("sma", files)
    module = _social_media_attributions
    monkeypatch.setattr(module, "_SET", replace(module._SET, sha256=published))
    assert fetch(data_home=tmp_path).data.size == 4499
    assert tree(tmp_path) == tidy_files("sma")


@pytest.mark.slow
def test_real_reviews_converted(real, data_folder, serve, tmp_path):
    bunch = real("imdb", "test")
    reviews = sorted(zip(bunch.ids, bunch.data, strict=True))
    content = tar(*((f"aclImdb/{review_id}.txt", text) for review_id, text in reviews))
    converted(data_folder, serve, tmp_path, "imdb", {"aclImdb_v1.tar.gz": content}, ["test"])
