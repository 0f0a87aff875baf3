"""Predictions as they were: a change of torch, of numpy or of our code that moves them is noticed.

If a change is meant to move them, `python tests/integration/test_reference.py` prints both tables anew, and the
commit says why.
"""

import json
import sys

import numpy as np
import pytest

from skspace import RaggedArray, SpaceClassifier, TokenEncoder
from skspace.datasets import load_support_messages

# Labels, pooling, head: decision values of one text; predictions of all, a digit each.
VECTORS = {
    ("two", "attention", "linear"): ([-0.5804423], "111001011111100101011001"),
    ("two", "attention", "alignment"): ([-1.140716], "011000001101100001000001"),
    ("two", "mean", "linear"): ([-0.66925], "111001001111100101001001"),
    ("two", "mean", "alignment"): ([-1.265912], "011000001101100001000001"),
    ("three", "attention", "linear"): ([-0.09477735, -0.1453954, 0.2401728], "111021011111122102121202"),
    ("three", "attention", "alignment"): ([-1.412818, -2.393983, -0.7750876], "011020021101122002120202"),
    ("three", "mean", "linear"): ([-0.0558533, -0.1670919, 0.2229452], "111021001111122102101202"),
    ("three", "mean", "alignment"): ([-1.301717, -2.384293, -0.7447058], "011020001101122001100202"),
    ("several", "attention", "linear"): ([-0.2071661, -0.3091063, 0.657857], "733347572372266753777444"),
    ("several", "attention", "alignment"): ([-1.039588, -1.685478, -0.1873199], "023300112202020057000404"),
    ("several", "mean", "linear"): ([-0.1880912, -0.2914142, 0.6204426], "733347572272266752747444"),
    ("several", "mean", "alignment"): ([-1.160791, -1.694754, -0.2854674], "023300100202020056000400"),
}
# Number of a message: decision values; prediction.
MESSAGES = {
    300: ([0.29334, -1.8822, -1.4399, 3.8292, -0.80043], "fault"),
    301: ([-1.8463, -2.268, 4.0081, -1.6742, 1.7804], "delivery"),
    302: ([-1.4447, -1.4685, 0.2046, -0.30073, 3.0094], "returns"),
    303: ([-1.0178, -0.89177, 1.9195, -1.9716, 1.9617], "returns"),
    304: ([-0.75835, -2.2548, 1.205, -1.0422, 2.8503], "returns"),
}


def vectors_and_labels(kind):
    """24 texts of 0 to 4 tokens, whose first three features tell of the labels through noise."""
    random = np.random.RandomState(0)
    n = np.arange(24)
    y = {"two": n % 2, "three": n % 3, "several": n[:, None] >> np.arange(3) & 1}[kind]
    signal = y if kind == "several" else np.eye(3)[y]
    rows = [random.randn(i % 5, 6) + np.pad(signal[i], (0, 3)) for i in n]
    return RaggedArray.from_rows(rows), y


def from_vectors(kind, pooling, head):
    X, y = vectors_and_labels(kind)
    clf = SpaceClassifier(
        "precomputed",
        n_latent=2,
        n_members=2,
        pooling=pooling,
        head=head,
        inter_space_weight=0.3,
        inter_space_on="tokens" if head == "linear" else "centroids",
        intra_space_weight=0.2,
        max_epochs=5,
        batch_size=8,
        device="cpu",
        random_state=0,
    ).fit(X, y)
    digits = clf.predict(X) @ [1, 2, 4] if kind == "several" else clf.predict(X)
    return clf.decision_function(X[[4]]).ravel(), "".join(map(str, digits))


def from_messages():
    texts, labels = load_support_messages(return_X_y=True)
    encoder = TokenEncoder(dtype="float32", device="cpu", cache_dir=None)
    clf = SpaceClassifier(encoder, max_epochs=10, device="cpu", random_state=0).fit(texts[:100], labels[:100])
    some = texts[300:305]
    return {300 + i: both for i, both in enumerate(zip(clf.decision_function(some), clf.predict(some), strict=True))}


CASES = [(y, p, h) for y in ("two", "three", "several") for p in ("attention", "mean") for h in ("linear", "alignment")]


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_vectors(case):
    """In float64: its rounding, which differs from machine to machine, stays far below the tolerance in training."""
    values, predictions = from_vectors(*case)
    np.testing.assert_allclose(values, VECTORS[case][0], rtol=1e-5)
    assert predictions == VECTORS[case][1]


def test_messages(minilm):
    """Vectors are kept in float16: where rounding tips one over, by threads or instruction set, values move by 4e-4."""
    found = from_messages()
    assert found.keys() == MESSAGES.keys()
    for number, (values, prediction) in MESSAGES.items():
        np.testing.assert_allclose(found[number][0], values, atol=2e-3)
        assert found[number][1] == prediction


def show(name, table, digits):
    lines = [f"{name} = {{"]
    for key, (values, predictions) in table.items():
        key = f"({', '.join(map(json.dumps, key))})" if isinstance(key, tuple) else key
        lines.append(f"    {key}: ([{', '.join(f'{v:.{digits}g}' for v in values)}], {json.dumps(predictions)}),")
    sys.stdout.write("\n".join([*lines, "}", ""]))


if __name__ == "__main__":
    show("VECTORS", {case: from_vectors(*case) for case in CASES}, 7)
    show("MESSAGES", from_messages(), 5)
