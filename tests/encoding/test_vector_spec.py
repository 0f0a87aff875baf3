"""VectorSpec: one list of what determines a stored vector, used for the store, for refitting and for saved folders."""

from dataclasses import field, fields, make_dataclass, replace

import pytest

from skspace import TokenEncoder
from skspace._encoding.vector_spec import VectorSpec

SPEC = VectorSpec("files:1", "w1", 2, 256, "keep", "float32", "float16")


def test_the_encoder_is_described_by_it(tiny_bert, tmp_path):
    encoder = TokenEncoder(tiny_bert, layer=-1, max_length=40, special_tokens="drop", dtype="float32")
    spec = encoder._vector_spec()
    assert (spec.layer, spec.max_length, spec.special_tokens) == (3, 40, "drop")
    assert encoder._cache(encoder._files()).store.namespace == spec.namespace()
    encoder._remember_model()
    assert encoder.set_params(model=str(tmp_path / "gone"))._vector_spec() == spec


def test_namespace_is_that_of_caches_written_so_far():
    assert SPEC.namespace() == {
        "model": "files:1",
        "layer": 2,
        "max_length": 256,
        "special_tokens": "keep",
        "computed": "float32",
        "stored": "float16",
    }


@pytest.mark.parametrize("name", ["layer", "max_length", "special_tokens", "stored"])
def test_what_changes_the_meaning_of_a_vector(name):
    other = replace(SPEC, **{name: "other"})
    assert SPEC.differences(other) == {name: (getattr(SPEC, name), "other")}
    assert SPEC.namespace() != other.namespace()


def test_rounding_changes_the_store_and_not_the_meaning():
    coarse = replace(SPEC, computed="bfloat16")
    assert SPEC.differences(coarse) == {}
    assert SPEC.namespace() != coarse.namespace()


@pytest.mark.parametrize(
    ("model", "weights", "same"),
    [
        ("files:1", "w2", True),
        ("files:2", "w1", False),  # another tokenizer, perhaps
        ("hub:a@1", "w1", True),
        ("hub:a@1", "w2", False),
    ],
)
def test_a_model_is_the_same_by_identity_or_weights(model, weights, same):
    expected = {} if same else {"model": ("files:1", model)}
    assert SPEC.differences(replace(SPEC, model=model, weights=weights)) == expected


def test_to_a_dict_and_back():
    assert VectorSpec.from_dict(SPEC.to_dict()) == SPEC
    assert list(SPEC.to_dict()) == [part.name for part in fields(VectorSpec)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": 3}, "depend on window, which this version of skspace does not know. Install"),
        ({"layer": True}, "'layer' of the vectors must be of type int. Got True instead"),
        ({"model": None}, "'model' of the vectors must be of type str. Got None instead"),
    ],
)
def test_a_dict_that_does_not_fit(change, message):
    with pytest.raises(ValueError, match=message):
        VectorSpec.from_dict(SPEC.to_dict() | change)


def test_a_dict_without_a_field_that_has_no_default():
    plain = SPEC.to_dict()
    del plain["layer"]
    with pytest.raises(ValueError, match=r"lacks 'layer'\. Expected a value"):
        VectorSpec.from_dict(plain)


def test_a_new_field_is_in_all_three():
    Later = make_dataclass("Later", [("window", int, field(default=0))], bases=(VectorSpec,), frozen=True)
    before, after = Later.from_dict(SPEC.to_dict()), Later.from_dict(SPEC.to_dict() | {"window": 3})
    assert (before.window, after.window) == (0, 3)
    assert before.differences(after) == {"window": (0, 3)}
    assert after.namespace() == SPEC.namespace() | {"window": 3}
    assert before.namespace() == SPEC.namespace(), "caches from before the field stay valid"
    assert Later.from_dict(after.to_dict()) == after
    with pytest.raises(ValueError, match="depend on window"):
        VectorSpec.from_dict(after.to_dict())
