"""Linear layers whose weights lie in memory as the processor's bfloat16 products want them.

oneDNN multiplies bfloat16 from weights in blocks, and rebuilds the blocks of a layer at every call. For a single text
is a third of the call (examples/benchmarks/bench_latency.md). The operators used here are those of torch's compiler.
They may change without notice, so callers compare the outputs.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn, ops

__all__ = ["pack"]


class _PackedLinear(nn.Module):
    """What an `nn.Linear` computes."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", ops.mkldnn._reorder_linear_weight(linear.weight.detach()))
        self.bias = linear.bias

    def forward(self, rows: Tensor) -> Tensor:
        return ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, "none", [], "")


def pack(model: nn.Module) -> Callable[[], None]:
    """Pack the linear layers of a frozen model in bfloat16 on a processor.

    Returns
    -------
    callable
        Puts the layers back as they were.

    Raises
    ------
    AttributeError, RuntimeError
        Where this torch or processor cannot; the model is then as it was.
    """
    linear = [
        (parent, name, layer)
        for parent in model.modules()
        for name, layer in parent.named_children()
        if type(layer) is nn.Linear
    ]
    replacements = [_PackedLinear(layer) for _, _, layer in linear]
    for (parent, name, _), replacement in zip(linear, replacements, strict=True):
        setattr(parent, name, replacement)

    def unpack() -> None:
        for parent, name, layer in linear:
            setattr(parent, name, layer)

    return unpack
