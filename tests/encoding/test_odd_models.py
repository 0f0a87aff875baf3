"""Models that are not as they should be: damaged, incomplete, or with habits of their own. Never a wrong vector."""

import json
import shutil
import warnings
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from skspace import TokenEncoder
from skspace._encoding.frozen_transformer import FrozenTransformer

CPU = torch.device("cpu")
TEXTS = ["the parcel", "", "my account was charged twice, late, late, late", "a"]


def copy(folder, to, *, config=None, tokenizer=None):
    shutil.copytree(folder, to)
    for name, changes in {"config.json": config, "tokenizer_config.json": tokenizer}.items():
        path = to / name
        path.write_text(json.dumps(json.loads(path.read_text()) | (changes or {})))
    return to


def encode(folder, texts=TEXTS, **params):
    return TokenEncoder(folder, **({"layer": 2, "dtype": "float32", "cache_dir": None} | params)).transform(texts)


def assert_rounded(got, expected):
    np.testing.assert_allclose(got.astype(np.float32), expected, rtol=1.01 * 2**-11, atol=1e-5)


# XLNet: config.max_position_embeddings is -1
def test_xlnet(tiny_models, hidden_states):
    rows = encode(tiny_models["xlnet"])
    for row, text in zip(rows, TEXTS, strict=True):
        assert_rounded(row, hidden_states(tiny_models["xlnet"], text, 256)[2])


# XLNet computes in float32 only
def test_xlnet_where_bfloat16_is_fast(tiny_models, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert len(encode(tiny_models["xlnet"], dtype="auto", device="cpu")) == len(TEXTS)
    with pytest.raises(OSError, match=r"cannot compute in bfloat16"):
        encode(tiny_models["xlnet"], dtype="bfloat16")


# No tokenizer: every word is unknown
@pytest.mark.parametrize("name", ["bert", "distilbert", "roberta", "t5"])
def test_folder_without_tokenizer(tiny_models, tmp_path, name):
    folder = Path(shutil.copytree(tiny_models[name], tmp_path / "m"))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(OSError, match=r"is not a model folder: expected config.json, a tokenizer and weights"):
        encode(folder)


def test_copy_from_the_hub_without_tokenizer(tiny_bert, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--tiny--model" / "snapshots" / ("a" * 40)
    shutil.copytree(tiny_bert, snapshot, ignore=shutil.ignore_patterns("tokenizer*"))
    (tmp_path / "models--tiny--model" / "refs").mkdir()
    (tmp_path / "models--tiny--model" / "refs" / "main").write_text("a" * 40)
    with pytest.raises(OSError, match=r"\(none of this model\); the hub \(it has the model, but no tokenizer"):
        encode("tiny/model")


def test_folder_with_an_old_vocabulary_file(tiny_bert, tmp_path):
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "m"))
    vocab = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in vocab))
    (folder / "tokenizer.json").unlink()
    np.testing.assert_array_equal(encode(folder).values, encode(tiny_bert).values)


# Weights that are missing are drawn at random, silently
def test_missing_weights(tiny_bert, tmp_path):
    folder = copy(tiny_bert, tmp_path / "m", config={"num_hidden_layers": 4})
    with pytest.raises(OSError, match=r"do not belong to its config.json: \d+ are missing, 'encoder.layer.3"):
        encode(folder, layer=4)
    encode(folder, layer=2)  # they are not needed there


# Padding_side="left" shifts absolute positions
@pytest.mark.parametrize("name", ["bert", "distilbert", "roberta", "modernbert", "t5"])
def test_tokenizer_that_pads_left(tiny_models, tmp_path, hidden_states, name):
    folder = copy(tiny_models[name], tmp_path / "m", tokenizer={"padding_side": "left"})
    for row, text in zip(encode(folder), TEXTS, strict=True):
        assert_rounded(row, hidden_states(tiny_models[name], text, 62)[2])


# Architectures that mix padding into the vectors
@pytest.mark.parametrize("kind", ["FNet", "ConvBert"])
@pytest.mark.parametrize("layer", [1, 3])
def test_padding_that_matters(tiny_bert, tmp_path, hidden_states, kind, layer, monkeypatch):
    import transformers

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # else convolutions on a graphics card are not exact
    config = {
        "vocab_size": 200,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
        "initializer_range": 0.3,
        "pad_token_id": 0,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**config))
    model.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(tiny_bert) / name, tmp_path)
    for row, text in zip(encode(tmp_path, layer=layer), TEXTS, strict=True):
        assert_rounded(row, hidden_states(str(tmp_path), text, 62)[layer])


def assert_vectors_of_transformers(tiny_bert, folder, hidden_states, model, config, layers, **sizes):
    """For a small model of an architecture, with the tokenizer of `tiny_bert`."""
    sizes |= {"vocab_size": 200, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        model(config(intermediate_size=48, max_position_embeddings=64, **sizes)).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(tiny_bert) / name, folder)
    for layer in layers:
        for row, text in zip(encode(folder, layer=layer), TEXTS, strict=True):
            assert_rounded(row, hidden_states(str(folder), text, 62)[layer])


# DeBERTa-v2 cut at layer 0 raises UnboundLocalError, which is not expected
def test_deberta(tiny_bert, tmp_path, hidden_states):
    from transformers import DebertaV2Config, DebertaV2Model

    relative = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False}
    assert_vectors_of_transformers(
        tiny_bert, tmp_path, hidden_states, DebertaV2Model, DebertaV2Config, range(4), **relative
    )


# SqueezeBERT calls its pooler whether it has one or not
def test_pooler_that_a_model_cannot_do_without(tiny_bert, tmp_path, hidden_states):
    from transformers import SqueezeBertConfig, SqueezeBertModel

    assert_vectors_of_transformers(
        tiny_bert, tmp_path, hidden_states, SqueezeBertModel, SqueezeBertConfig, (2, 3), embedding_size=32
    )


# Damaged files
def truncate_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:2000])


def break_config(folder):
    (folder / "config.json").write_text("{")


def break_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{")


def other_shapes(folder):
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.0.output.dense.weight"] = torch.zeros(32, 7)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("damage", [truncate_weights, break_config, break_tokenizer, other_shapes])
def test_damaged_model(tiny_bert, tmp_path, damage):
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "m"))
    damage(folder)
    with pytest.raises(OSError, match=r"could not be loaded|config.json is damaged"):
        encode(folder)


# The user's random state
def test_loading_draws_nothing_from_the_random_state(tiny_bert, tmp_path):
    from transformers import AutoConfig, BertForMaskedLM

    folder = Path(shutil.copytree(tiny_bert, tmp_path / "m"))
    with torch.random.fork_rng(devices=[]):
        BertForMaskedLM(AutoConfig.from_pretrained(tiny_bert)).save_pretrained(folder)  # has no pooler
    before = torch.get_rng_state()
    FrozenTransformer(folder, layer=2, max_length=40, device=CPU, dtype=torch.float32)
    assert torch.equal(torch.get_rng_state(), before)


# Devices that are not there
def test_device_that_is_not_there(tiny_bert):
    with pytest.raises(ValueError, match=r"'device' parameter .* Got 'cuda:99' instead"):
        encode(tiny_bert, device="cuda:99")


# A renamed folder
def test_renamed_model_shares_all(tiny_bert, tmp_path):
    encode(tiny_bert, cache_dir=tmp_path / "cache")
    renamed = shutil.copytree(tiny_bert, tmp_path / "another-name")
    encoder = TokenEncoder(renamed, layer=2, dtype="float32", cache_dir=tmp_path / "cache")
    assert encoder.cache_info()["n_texts"] == len(TEXTS)


# Where the warning points
def test_warning_points_at_the_caller(tiny_bert):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        TokenEncoder(tiny_bert, max_length=3, cache_dir=None).transform(["the parcel"])
    assert caught[0].filename == __file__


def test_folder_with_a_revision(tiny_bert):
    with pytest.raises(ValueError, match=r"'revision' parameter must be None for a folder, .* Got 'main' instead"):
        encode(tiny_bert, revision="main")


def test_weights_beside_those_in_use_are_not_mistaken_for_them(tiny_bert, tmp_path):
    """A stray safetensors file must not hide changes of the pickled weights that are loaded."""
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "m"))
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    cache = {"cache_dir": tmp_path / "cache", "layer": 0}
    torch.save(weights, folder / "pytorch_model.bin")
    before = encode(folder, **cache).values
    weights["embeddings.word_embeddings.weight"] *= 2
    torch.save(weights, folder / "pytorch_model.bin")
    assert not np.array_equal(encode(folder, **cache).values, before)
