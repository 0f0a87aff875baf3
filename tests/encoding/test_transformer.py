"""FrozenTransformer against transformers itself, on tiny models of several architectures."""

import json
import logging as python_logging
import os
import pickle
import random
import shutil
import subprocess
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from skspace._encoding.frozen_transformer import FrozenTransformer, read_config

ARCHITECTURES = ["bert", "distilbert", "roberta", "xlnet", "modernbert", "t5"]
DEPTH = 3
CPU = torch.device("cpu")
LONG = "My account was charged twice, and the parcel is late! " * 9
TEXTS = ["the parcel", "", "a", LONG, "is it 7-9 (late)?", "text"]  # 0, 1, a few and more tokens than MAX_LENGTH
MAX_LENGTH = 40


def load(folder, *, layer=DEPTH, max_length=MAX_LENGTH, dtype=torch.float32):
    return FrozenTransformer(folder, layer=layer, max_length=max_length, device=CPU, dtype=dtype)


def vectors_of(transformer, tokens):
    """Of tokenised texts as one batch, (n_tokens, d) each."""
    return [vectors[: len(t.ids)] for t, vectors in zip(tokens, transformer.forward(tokens), strict=True)]


def vectors(transformer, texts):
    return vectors_of(transformer, transformer.tokenize(texts))


def assert_rounded(got, expected):
    """float16 vectors that are float32 vectors, rounded."""
    assert got.dtype == np.float16
    assert got.shape == expected.shape
    np.testing.assert_allclose(got.astype(np.float32), expected, rtol=1.01 * 2**-11, atol=1e-5)


def copy(folder, to, *, config=None, tokenizer=None):
    """A copy of a model folder with changes in its two JSON files."""
    shutil.copytree(folder, to)
    for name, changes in {"config.json": config, "tokenizer_config.json": tokenizer}.items():
        path = to / name
        path.write_text(json.dumps(json.loads(path.read_text()) | (changes or {})))
    return to


def calls(transformer):
    """What is passed to the model from now on."""
    seen = []
    transformer.model.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True)
    return seen


# -------------------------------------------------------------------- vectors


@pytest.mark.parametrize("layer", range(DEPTH + 1))
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_vectors_are_those_of_transformers(tiny_models, hidden_states, name, layer):
    transformer = load(tiny_models[name], layer=layer)
    tokens = transformer.tokenize(TEXTS)
    assert max(len(t.ids) for t in tokens) == MAX_LENGTH
    assert min(len(t.ids) for t in tokens) <= 2
    got = vectors_of(transformer, tokens)
    for i in range(len(TEXTS)):
        assert len(got[i]) == len(tokens[i].ids)
        assert_rounded(got[i], hidden_states(tiny_models[name], TEXTS[i], MAX_LENGTH)[layer])
    # and alone, without the others' padding
    assert_rounded(
        vectors_of(transformer, tokens[:1])[0], hidden_states(tiny_models[name], TEXTS[0], MAX_LENGTH)[layer]
    )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_layers_differ(tiny_models, hidden_states, name):
    # Else the comparison above would prove little.
    states = hidden_states(tiny_models[name], TEXTS[0], MAX_LENGTH)
    assert all(np.abs(a - b).mean() > 0.05 for a, b in pairwise(states))
    assert np.abs(states[0][0] - states[0][1]).mean() > 0.05


@pytest.mark.parametrize("layer", range(DEPTH + 1))
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_layers_above_are_not_run(tiny_models, name, layer):
    names = {
        "bert": "BertLayer",
        "distilbert": "TransformerBlock",
        "roberta": "RobertaLayer",
        "xlnet": "XLNetLayer",
        "modernbert": "ModernBertEncoderLayer",
        "t5": "T5Block",
    }
    transformer = load(tiny_models[name], layer=layer)
    run = []
    hook = torch.nn.modules.module.register_module_forward_hook(lambda module, *_: run.append(type(module).__name__))
    try:
        vectors(transformer, ["the parcel"])
    finally:
        hook.remove()
    # These two put a normalisation behind their last layer, and need one more to be right.
    expected = min(layer + 1, DEPTH) if name in {"modernbert", "t5"} else layer
    assert run.count(names[name]) == expected
    # nor kept in memory
    assert sum(type(module).__name__ == names[name] for module in transformer.model.modules()) == expected


@pytest.mark.parametrize(
    ("longest", "width"),
    [(1, 1), (15, 16), (14, 14), (16, 16), (17, 17), (31, 32), (28, 28), (61, 64), (47, 48), (0, 1)],
)
def test_width_of_a_batch(tiny_models, longest, width):
    """Up to whole vectors where that adds a fifteenth or less, and never beyond the model's positions."""
    transformer = load(tiny_models["bert"], max_length=64)
    batch = [_of_length(transformer, longest), _of_length(transformer, min(longest, 3))]
    inputs = transformer._pad(batch)
    assert inputs["input_ids"].shape == (2, width)
    mask = inputs.get("attention_mask", torch.ones(2, width))  # left out where there is no padding
    assert mask.sum(1).tolist() == [len(tokens.ids) for tokens in batch]


def test_width_where_it_must_not_grow(tiny_models):
    transformer = load(tiny_models["bert"], max_length=64)
    batch = [_of_length(transformer, 31)]
    assert transformer._pad(batch)["input_ids"].shape == (1, 32)
    transformer._widest = 31
    assert transformer._pad(batch)["input_ids"].shape == (1, 31)
    transformer._widest, transformer.pads = 64, False  # a model that mixes the padding in
    assert transformer._pad(batch)["input_ids"].shape == (1, 31)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_no_mask_without_padding(tiny_models, name):
    transformer = load(tiny_models[name])
    seen = calls(transformer)
    tokens = transformer.tokenize(["the parcel"])
    (short,) = vectors_of(transformer, tokens)
    both = vectors_of(transformer, [*tokens, *transformer.tokenize([LONG])])
    assert ["attention_mask" in kwargs for kwargs in seen] == [False, True]
    np.testing.assert_allclose(both[0].astype(np.float32), short.astype(np.float32), atol=2e-3)


def test_mask_where_the_model_does_not_assume_one(tiny_models, monkeypatch):
    """Whatever a model takes a missing mask for, its vectors are those of a mask of ones."""
    from transformers import BertModel

    expected = vectors(load(tiny_models["bert"]), ["the parcel"])[0]
    forward = BertModel.forward

    def with_another_default(self, input_ids, attention_mask=None, **kwargs):
        if attention_mask is None:
            attention_mask = torch.zeros_like(input_ids).index_fill(1, torch.tensor([0]), 1)  # the first token only
        return forward(self, input_ids, attention_mask=attention_mask, **kwargs)

    monkeypatch.setattr(BertModel, "forward", with_another_default)
    transformer = load(tiny_models["bert"])
    seen = calls(transformer)
    np.testing.assert_array_equal(vectors(transformer, ["the parcel"])[0], expected)
    assert "attention_mask" in seen[0]


def test_pooler_is_left_out(tiny_models, hidden_states):
    transformer = load(tiny_models["bert"])
    assert transformer.model.pooler is None
    assert_rounded(vectors(transformer, TEXTS[:1])[0], hidden_states(tiny_models["bert"], TEXTS[0], MAX_LENGTH)[DEPTH])


# -------------------------------------------------------------------- packed weights


def bfloat16_packs():
    try:
        torch.ops.mkldnn._reorder_linear_weight(torch.zeros(8, 8, dtype=torch.bfloat16))
    except (AttributeError, RuntimeError):
        return False
    return True


def linear_layers(transformer):
    return [type(module).__name__ for module in transformer.model.modules() if "Linear" in type(module).__name__]


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "xlnet"])  # which takes float32 only
def test_packed_weights_give_the_same_vectors(tiny_models, monkeypatch, name):
    if not bfloat16_packs():
        pytest.skip("this processor has no bfloat16 products")
    packed = load(tiny_models[name], layer=2, dtype=torch.bfloat16)
    monkeypatch.setattr(FrozenTransformer, "_pack", lambda self: None)
    plain = load(tiny_models[name], layer=2, dtype=torch.bfloat16)
    assert set(linear_layers(packed)) == {"_PackedLinear"}
    assert len(linear_layers(packed)) == len(linear_layers(plain))
    for got, expected in zip(vectors(packed, TEXTS), vectors(plain, TEXTS), strict=True):
        difference = np.abs(got.astype(np.float32) - expected.astype(np.float32))
        assert (difference <= 0.05 * np.abs(expected.astype(np.float32)).max(initial=0)).all()


def test_float32_is_not_packed(tiny_models):
    assert "_PackedLinear" not in linear_layers(load(tiny_models["bert"]))


def raising(error):
    def operator(*args):
        raise error

    return operator


@pytest.mark.parametrize(
    ("operator", "replacement"),
    [
        ("_reorder_linear_weight", raising(AttributeError("no such operator"))),  # a torch without it
        ("_reorder_linear_weight", raising(RuntimeError("no bfloat16"))),  # a processor without it
        ("_linear_pointwise", raising(RuntimeError("other arguments"))),
        ("_linear_pointwise", lambda rows, weight, bias, *args: rows.new_ones(*rows.shape[:-1], len(bias))),
    ],
)
def test_weights_stay_where_packing_fails(tiny_models, monkeypatch, operator, replacement):
    fake = SimpleNamespace(_reorder_linear_weight=torch.clone, _linear_pointwise=raising(RuntimeError("not called")))
    setattr(fake, operator, replacement)
    with monkeypatch.context() as patch:
        patch.setattr(FrozenTransformer, "_pack", lambda self: None)
        expected = vectors(load(tiny_models["bert"], dtype=torch.bfloat16), TEXTS)
    monkeypatch.setattr(torch.ops, "mkldnn", fake)
    transformer = load(tiny_models["bert"], dtype=torch.bfloat16)
    assert set(linear_layers(transformer)) == {"Linear"}
    for got, wanted in zip(vectors(transformer, TEXTS), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


def _of_length(transformer, n):
    (tokens,) = transformer.tokenize(["the parcel"])
    return tokens._replace(ids=np.resize(tokens.ids, n), types=np.resize(tokens.types, n))


def test_no_decoder(tiny_models):
    transformer = load(tiny_models["t5"])
    assert type(load(tiny_models["t5"]).model).__name__ == "T5Stack"
    n_in_file = len(load_file(f"{tiny_models['t5']}/model.safetensors"))
    assert len(transformer.model.state_dict()) < n_in_file  # the decoder's weights are not kept in memory


def test_model_that_cannot_be_cut_is_run_whole(tiny_bert, hidden_states, monkeypatch):
    """Where cutting changes the vectors, all layers are run and the right hidden state is taken."""
    from transformers.models.bert.modeling_bert import BertEncoder

    whole = BertEncoder.forward

    def picky(self, *args, **kwargs):
        if len(self.layer) < DEPTH:
            raise IndexError("an architecture that counts its layers itself")
        return whole(self, *args, **kwargs)

    monkeypatch.setattr(BertEncoder, "forward", picky)
    transformer = load(tiny_bert, layer=1)
    assert len(transformer.model.encoder.layer) == DEPTH
    assert_rounded(vectors(transformer, TEXTS)[0], hidden_states(tiny_bert, TEXTS[0], MAX_LENGTH)[1])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_batch_does_not_matter(tiny_models, name):
    transformer = load(tiny_models[name])
    tokens = transformer.tokenize(TEXTS)
    alone = np.concatenate([vectors_of(transformer, [t])[0] for t in tokens]).astype(np.float32)
    for batch in (range(len(TEXTS)), range(len(TEXTS))[::-1], [3, 0, 1, 2, 4, 5]):
        got = dict(zip(batch, vectors_of(transformer, [tokens[i] for i in batch]), strict=True))
        together = np.concatenate([got[i] for i in range(len(TEXTS))])
        np.testing.assert_allclose(together, alone, rtol=2**-10, atol=1e-5)


def test_frozen(tiny_bert, tmp_path):
    folder = copy(tiny_bert, tmp_path / "m", config={"hidden_dropout_prob": 0.9, "attention_probs_dropout_prob": 0.9})
    transformer = load(folder)
    assert not any(module.training for module in transformer.model.modules())
    assert not any(parameter.requires_grad for parameter in transformer.model.parameters())
    first, second = vectors(transformer, TEXTS[:1]), vectors(transformer, TEXTS[:1])
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[0], vectors(load(tiny_bert), TEXTS[:1])[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dtype(tiny_bert, dtype):
    transformer = load(tiny_bert, dtype=dtype)
    assert {p.dtype for p in transformer.model.parameters()} == {dtype}
    got = vectors(transformer, TEXTS)[0]
    assert got.dtype == np.float16
    np.testing.assert_allclose(got.astype(np.float32), vectors(load(tiny_bert), TEXTS)[0], atol=0.1)


# -------------------------------------------------------------------- tokens


def test_tokens_of_bert(tiny_bert):
    transformer = load(tiny_bert)
    (tokens,) = transformer.tokenize(["The  parcel's"])
    assert transformer.token_strings(tokens) == ["[CLS]", "the", "parcel", "'", "s", "[SEP]"]
    assert tokens.spans.tolist() == [[0, 0], [0, 3], [5, 11], [11, 12], [12, 13], [0, 0]]
    assert tokens.special.tolist() == [True, False, False, False, False, True]
    assert tokens.types.tolist() == [0] * 6
    assert tokens.truncated is False


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_spans_cover_the_text(tiny_models, name):
    transformer = load(tiny_models[name])
    text = "the parcel, is\n late (7)"
    (tokens,) = transformer.tokenize([text])
    assert len(tokens.ids) == len(tokens.spans) == len(tokens.special)
    covered = {i for begin, end in tokens.spans for i in range(begin, end)}
    assert {i for i, character in enumerate(text) if not character.isspace()} <= covered <= set(range(len(text)))
    assert (tokens.spans[tokens.special] == 0).all()
    assert 1 <= tokens.special.sum() <= 2


def test_special_tokens_of_xlnet_stand_at_the_end(tiny_models):
    transformer = load(tiny_models["xlnet"])
    assert transformer.tokenizer.padding_side == "left"  # so that the comparisons above are with padding of that kind
    (tokens,) = transformer.tokenize(["the parcel"])
    assert tokens.special.tolist() == [False, False, True, True]
    assert tokens.types.tolist() == [0, 0, 0, 2]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_truncation(tiny_models, name):
    transformer = load(tiny_models[name], max_length=9)
    n_special = int(transformer.tokenize(["the"])[0].special.sum())
    n_extra = int(name in {"xlnet", "t5"})  # a lone ▁ before the first mark
    texts = ["!" * (n - n_special - n_extra) for n in (9, 10, 50)]
    tokens = transformer.tokenize(texts)
    assert [len(t.ids) for t in tokens] == [9, 9, 9]
    assert [t.truncated for t in tokens] == [False, True, True]
    assert tokens[2].special.sum() == n_special  # it is the text that is cut


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("bert", 64),
        ("distilbert", 64),
        ("roberta", 62),  # its positions begin behind that of the padding
        ("modernbert", 64),
        ("xlnet", 1000),  # the last two know relative positions only
        ("t5", 1000),
    ],
)
def test_position_limit(tiny_models, name, limit):
    if name not in ARCHITECTURES:
        pytest.skip(name)
    transformer = load(tiny_models[name], max_length=1000)
    assert transformer.max_length == limit
    tokens = transformer.tokenize(["!" * 1999, "!"])
    assert len(tokens[0].ids) == limit
    assert [t.truncated for t in tokens] == [True, False]
    got = vectors_of(transformer, tokens)
    assert [len(v) for v in got] == [limit, len(tokens[1].ids)]
    assert np.isfinite(got[0]).all()


def test_limit_of_the_tokenizer(tiny_bert, tmp_path):
    folder = copy(tiny_bert, tmp_path / "m", tokenizer={"model_max_length": 11})
    assert load(folder).max_length == 11
    assert load(folder, max_length=7).max_length == 7


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(
    "text",
    [
        "The parcel is late, my account was charged twice! " * 2000,
        "x" * 30_000 + " late",  # one word, over the place of the cut
        "\n" * 30_000 + "late and " * 300,
        "a" + "\u0301" * 30_000,
        "late " * 40 + "y" * 30_000,
        "\u6f22" * 30_000,
    ],
    ids=["words", "word", "newlines", "accents", "words and a word", "no spaces"],
)
def test_beginning_of_a_very_long_text(tiny_models, name, text):
    """Read in part where that is enough; the tokens are those of the whole text."""
    transformer = load(tiny_models[name], max_length=20)
    (tokens,) = transformer.tokenize([text])
    (hasty,) = transformer.tokenize([text], spans=False)
    (whole,) = transformer._tokenize([text])
    assert hasty.ids.tolist() == whole.ids.tolist()
    assert tokens.ids.tolist() == whole.ids.tolist()
    assert tokens.spans.tolist() == whole.spans.tolist()
    assert tokens.truncated == whole.truncated


def test_very_long_text_is_not_read_to_its_end(tiny_bert, monkeypatch):
    transformer, sizes = load(tiny_bert, max_length=20), []
    read = FrozenTransformer._tokenize

    def watched(self, texts, **kwargs):
        sizes.extend(map(len, texts))
        return read(self, texts, **kwargs)

    monkeypatch.setattr(FrozenTransformer, "_tokenize", watched)
    transformer.tokenize(["late " * 100_000, "late"])
    assert sum(sizes) < 20 * 64 + 5


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("n_texts", [3, 1100])
def test_tokens_without_spans_are_the_same(tiny_models, name, n_texts):
    transformer = load(tiny_models[name])
    texts = [f"{TEXTS[i % len(TEXTS)]} {i}" for i in range(n_texts)]
    for with_them, without in zip(transformer.tokenize(texts), transformer.tokenize(texts, spans=False), strict=True):
        assert without.spans is None
        assert with_them.ids.tolist() == without.ids.tolist()
        assert with_them.special.tolist() == without.special.tolist()
        assert with_them.truncated == without.truncated


def test_special_tokens_written_in_a_text(tiny_bert):
    (tokens,) = load(tiny_bert).tokenize(["the [SEP] [PAD] parcel"])
    assert len(tokens.ids) == 6
    assert tokens.special.tolist() == [True, False, False, False, False, True]
    # [PAD] in a text is a token like any other, not padding
    assert len(vectors(load(tiny_bert), ["the [SEP] [PAD] parcel"])[0]) == 6


# -------------------------------------------------------------------- loading


def test_loading_is_quiet_and_leaves_no_trace(tiny_bert, capfd, monkeypatch):
    from transformers.utils import logging

    monkeypatch.setattr(logging, "_tqdm_active", True)
    logging.set_verbosity(python_logging.INFO)
    environment, states = dict(os.environ), (random.getstate(), torch.get_rng_state())
    try:
        vectors(load(tiny_bert), TEXTS)
        assert logging.get_verbosity() == python_logging.INFO
    finally:
        logging.set_verbosity_warning()
    assert logging.is_progress_bar_enabled()
    assert dict(os.environ) == environment
    assert capfd.readouterr() == ("", "")
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])


@pytest.mark.parametrize("known", [True, False])
def test_code_of_a_model_is_not_run(tiny_bert, tmp_path, known):
    """A model of an unknown type is refused; one of a known type is what transformers makes of it."""
    evidence = tmp_path / "ran"
    names = {"AutoConfig": "mine.Config", "AutoModel": "mine.Model", "AutoTokenizer": ["mine.Slow", "mine.Fast"]}
    custom = {"auto_map": names}
    config = custom | ({} if known else {"model_type": "mine"})
    folder = copy(tiny_bert, tmp_path / "m", config=config, tokenizer=custom)
    (folder / "mine.py").write_text(f"open({str(evidence)!r}, 'w').close()\n")
    if known:
        np.testing.assert_array_equal(vectors(load(folder), TEXTS[:1])[0], vectors(load(tiny_bert), TEXTS[:1])[0])
    else:
        with pytest.raises(OSError, match=r"could not be loaded.*custom code"):
            load(folder)
        with pytest.raises(ValueError, match="custom code"):
            read_config(folder)
    assert not evidence.exists()


class _Shell:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return subprocess.getoutput, (self.command,)


def test_pickled_code_is_not_run(tiny_bert, tmp_path):
    evidence, folder = tmp_path / "ran", copy(tiny_bert, tmp_path / "m")
    (folder / "model.safetensors").unlink()
    torch.save({"embeddings.word_embeddings.weight": _Shell(f"touch {evidence}")}, folder / "pytorch_model.bin")
    with pytest.raises((OSError, pickle.UnpicklingError), match="Weights only load failed"):
        load(folder)
    assert not evidence.exists()
    torch.load(folder / "pytorch_model.bin", weights_only=False)
    assert evidence.exists()  # it would have


def test_pickled_tensors_are_read(tiny_bert, tmp_path, network):
    folder = copy(tiny_bert, tmp_path / "m")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    np.testing.assert_array_equal(vectors(load(folder), TEXTS[:1])[0], vectors(load(tiny_bert), TEXTS[:1])[0])
    assert network == []  # nor is the hub asked for a conversion to safetensors


def test_safetensors_are_preferred(tiny_bert, tmp_path):
    folder = copy(tiny_bert, tmp_path / "m")
    (folder / "pytorch_model.bin").write_bytes(b"no weights at all")
    np.testing.assert_array_equal(vectors(load(folder), TEXTS[:1])[0], vectors(load(tiny_bert), TEXTS[:1])[0])


def test_slow_tokenizer_is_refused(tiny_bert, tmp_path):
    folder = copy(tiny_bert, tmp_path / "m")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "CanineTokenizer"}')
    with pytest.raises(OSError, match=r"CanineTokenizer\) has no fast version.* Expected a tokenizer.json"):
        load(folder)


def test_unknown_architecture_is_refused(tiny_bert, tmp_path):
    folder = copy(tiny_bert, tmp_path / "m", config={"model_type": "never-heard-of", "architectures": ["No"]})
    with pytest.raises(OSError, match=r"m could not be loaded:.*never-heard-of"):
        load(folder)
