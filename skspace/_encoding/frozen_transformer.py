"""FrozenTransformer: a loaded tokenizer and encoder that turns batches of texts into vectors of one hidden layer.

The only door to transformers, which is imported when a model is loaded and not before. Weights are read from
safetensors, or as plain tensors with `weights_only`; code that comes with a model is never run. The module is always in
eval mode and without gradients: that is what makes keeping its vectors valid.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from skspace._encoding.bfloat16_linear import pack
from skspace._encoding.thread_pool import map_in_threads
from skspace._runtime.devices import prepare_process, without_autocast

__all__ = ["FrozenTransformer", "Tokens", "read_config"]

_CHARACTERS_A_TOKEN = 64  # far more than a token of any language has
# On a processor torch's attention computes whole vectors fast and their remainders one number at a time: a token took
# 2.5 times as long at a width of 63 as at 64 (examples/benchmarks/bench_encode.md). One place more in 15 is worth it.
_VECTOR, _ONE_IN = 16, 15
_TEXTS_AT_ONCE = 512  # tokenised by one call, whose memory malloc keeps
_PROBE = ["A short text.", "And another one, longer than the first."]


class Tokens(NamedTuple):
    """One tokenised text.

    In arrays: as Python's numbers a token takes 400 bytes, which for some thousand long texts is a third of a gigabyte.

    Attributes
    ----------
    ids : ndarray of int32 of shape (n_tokens,)
        Special tokens included.
    types : ndarray of int32 of shape (n_tokens,), or None
        Token types, where the model has them.
    special : ndarray of bool of shape (n_tokens,)
    spans : ndarray of int32 of shape (n_tokens, 2), or None
        Characters of the text, [begin, end); (0, 0) for special tokens. None unless asked for.
    truncated : bool
    """

    ids: NDArray[np.int32]
    types: NDArray[np.int32] | None
    special: NDArray[np.bool_]
    spans: NDArray[np.int32] | None
    truncated: bool

    def end_before(self, place: int) -> bool:
        """Whether the text was cut, and its last token stands before this character."""
        return self.truncated and self.spans is not None and bool(self.spans.max() < place)


def read_config(folder: Path) -> Any:
    """The model's configuration with transformers' own names."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder, trust_remote_code=False).get_text_config()


class FrozenTransformer:
    """A frozen encoder, cut off above one hidden layer.

    Parameters
    ----------
    folder : Path
        Configuration, tokenizer and weights.
    layer : int
        0 for the token embeddings, ``n_layers`` for the model's output.
    max_length : int
        Tokens a text, special tokens included; less where the model takes less.
    device : torch.device
    dtype : torch.dtype
    """

    def __init__(self, folder: Path, *, layer: int, max_length: int, device: torch.device, dtype: torch.dtype) -> None:
        # Weights that a model's files lack (a pooler) are drawn at random, but not from the user's generator.
        with _quiet_transformers(), torch.random.fork_rng(devices=[]):
            from transformers import AutoModel, AutoTokenizer

            try:
                self.tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True, trust_remote_code=False)
                model, info = AutoModel.from_pretrained(
                    folder, dtype=dtype, trust_remote_code=False, weights_only=True, output_loading_info=True
                )
            except Exception as error:  # damaged files raise whatever their reader does
                raise OSError(
                    f"The model in {folder} could not be loaded: {str(error).strip()} (skspace needs an encoder that "
                    "transformers.AutoModel and AutoTokenizer load without code of the model's own.)"
                ) from error
        if not self.tokenizer.is_fast:
            raise OSError(
                f"The tokenizer in {folder} ({type(self.tokenizer).__name__}) has no fast version, which skspace needs "
                "to tell where a token stands in its text. Expected a tokenizer.json; write one with "
                "AutoTokenizer.from_pretrained(...).save_pretrained(folder)."
            )
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        self.model = model.get_encoder() if model.config.is_encoder_decoder else model
        self.model.eval().requires_grad_(False).to(device)
        self.device, self.dtype, self.layer = device, dtype, layer
        self._widest = self._n_positions()
        self.max_length = min(max_length, self.tokenizer.model_max_length, self._widest)
        self._inputs = [n for n in ("token_type_ids",) if n in self.tokenizer.model_input_names]
        self.pads, self._wants_mask = False, True  # until it is known
        try:
            self._layer_output = self._cut_above(layer)
            self._leave_out_pooler()
            self.pads = self._ignores_padding()
            self._wants_mask = not self._same_without_mask()
        except Exception as error:
            raise OSError(
                f"The model in {folder} gives no vector for every token at layer={layer}, or cannot compute in "
                f"{str(dtype).removeprefix('torch.')}: {error}"
            ) from error
        used = {names.get(id(parameter), "") for parameter in self.model.parameters()}
        missing = sorted(name for name in used & set(info["missing_keys"]) if "pooler" not in name)
        if missing:
            raise OSError(
                f"The weights in {folder} do not belong to its config.json: {len(missing)} are missing, "
                f"{missing[0]!r} among them. Download the model again, or write the folder with save_pretrained."
            )
        self._own_weights()
        if dtype == torch.bfloat16 and device.type == "cpu":
            self._pack()

    def _own_weights(self) -> None:
        """Copy what may be a memory map of the model's file: who copies another over it would change the model."""
        if self.device.type == "cpu":
            for tensor in (*self.model.parameters(), *self.model.buffers()):
                tensor.data = tensor.data.clone()

    # ---------------------------------------------------------------- text to tokens

    def tokenize(self, texts: Sequence[str], *, spans: bool = True) -> list[Tokens]:
        """Tokenise without padding, cut at `max_length`; a little faster without `spans`.

        Of a text that is very much longer only the beginning is read: a tokenizer would take a gigabyte for 10 MB.
        """
        n_read = self.max_length * _CHARACTERS_A_TOKEN
        tokens: list[Tokens] = []
        for begin in range(0, len(texts), _TEXTS_AT_ONCE):
            some = texts[begin : begin + _TEXTS_AT_ONCE]
            need_spans = spans or max(map(len, some)) > n_read  # to find texts that were cut too early, below
            tokens += self._tokenize([text[:n_read] for text in some], spans=need_spans)
        # Where the tokens reach near the place of that cut (words without end), the whole text decides.
        short = [i for i, text in enumerate(texts) if len(text) > n_read and not tokens[i].end_before(n_read // 2)]
        for i in short:
            (tokens[i],) = self._tokenize([texts[i]])
        return tokens

    def _tokenize(self, texts: list[str], *, spans: bool = True) -> list[Tokens]:
        encoded = self.tokenizer(
            texts,
            truncation=True,
            max_length=self.max_length,
            return_token_type_ids=bool(self._inputs),
            return_attention_mask=False,
            return_special_tokens_mask=True,
            return_offsets_mapping=spans,
        )
        return [
            Tokens(
                np.array(ids, np.int32),
                np.array(encoded["token_type_ids"][i], np.int32) if self._inputs else None,
                np.array(encoded["special_tokens_mask"][i], bool),
                np.array(encoded["offset_mapping"][i], np.int32).reshape(-1, 2) if spans else None,
                bool(encoded.encodings[i].overflowing),
            )
            for i, ids in enumerate(encoded["input_ids"])
        ]

    def token_strings(self, tokens: Tokens) -> list[str]:
        """The tokenizer's names of a text's tokens."""
        return list(self.tokenizer.convert_ids_to_tokens(tokens.ids.tolist()))

    # ---------------------------------------------------------------- tokens to vectors

    def forward_all(
        self, batches: Iterable[Sequence[Tokens]], n_batches: int
    ) -> Generator[NDArray[np.float16], None, None]:
        """`forward` of each batch, in their order; on a processor by as many threads as torch may use.

        `n_batches` need be no more than a guess: with fewer than there are threads, threads share a batch.
        """
        prepare_process()
        n_threads = torch.get_num_threads() if self.device.type == "cpu" else 1
        return map_in_threads(self.forward, batches, n_batches, n_threads)

    def forward(self, batch: Sequence[Tokens]) -> NDArray[np.float16]:
        """Vectors of the expected layer, (n_texts, n_padded, n_features); those of a text are the first of its row."""
        with torch.inference_mode(), without_autocast(self.device):
            return self._layer_output(self._pad(batch)).to(torch.float16).cpu().numpy()

    def _pad(self, batch: Sequence[Tokens]) -> dict[str, torch.Tensor]:
        """What the model takes, (n_texts, width) each."""
        lengths = [len(tokens.ids) for tokens in batch]
        shape = (len(batch), self._width(max(lengths)))
        arrays = {"input_ids": np.full(shape, self.tokenizer.pad_token_id or 0)}
        if self._wants_mask or min(lengths) < shape[1]:
            arrays["attention_mask"] = np.zeros(shape, np.int64)
        for name in self._inputs:
            arrays[name] = np.full(shape, self.tokenizer.pad_token_type_id or 0)
        for row, tokens in enumerate(batch):
            # On the right whatever the tokenizer says: on the left it would shift absolute positions.
            values = {"input_ids": tokens.ids, "attention_mask": 1, "token_type_ids": tokens.types}
            for name, array in arrays.items():
                array[row, : lengths[row]] = values[name]
        return {name: torch.from_numpy(array).to(self.device) for name, array in arrays.items()}

    def _width(self, longest: int) -> int:
        """Width of a batch: `longest`, or a little more where that is faster."""
        whole = -(-longest // _VECTOR) * _VECTOR
        cheap = _ONE_IN * (whole - longest) <= longest and whole <= self._widest
        worth = self.pads and self.device.type == "cpu" and cheap
        return max(whole if worth else longest, 1)

    # ---------------------------------------------------------------- leaving out the layers above

    def _cut_above(self, layer: int) -> Any:
        """Drop the layers above `layer`, as far as the vectors of a probe stay what the whole model makes of it.

        Some architectures put a normalisation behind their last layer, so that what comes out of a model cut at `layer`
        is not its hidden state of that number; those keep one layer more. Where no stack of layers is found, or
        cutting changes the probe, the whole model runs.
        """
        depth = self.model.config.get_text_config().num_hidden_layers
        inputs = self._pad(self.tokenize(_PROBE))
        with torch.inference_mode():
            states = self.model(**inputs, output_hidden_states=True)
            expected = states.last_hidden_state if layer == depth else states.hidden_states[layer]
            if layer == depth:
                return self._last
            stacks = [m for m in self.model.modules() if isinstance(m, nn.ModuleList) and len(m) == depth]
            if len(stacks) == 1:
                (stack,) = stacks
                layers = list(stack)
                for n_kept, output in ((layer, self._last), (layer + 1, self._hidden)):
                    del stack[:]
                    stack.extend(layers[:n_kept])
                    if self._same(output, inputs, expected):
                        return output
                del stack[:]
                stack.extend(layers)
        return self._hidden

    def _same(self, output: Any, inputs: dict[str, torch.Tensor], expected: torch.Tensor) -> bool:
        try:
            return bool(torch.equal(output(inputs), expected))
        except (LookupError, ValueError, TypeError, AttributeError, NameError, RuntimeError):
            # An architecture that counts its layers elsewhere cannot be cut this way; what it raises is up to its code.
            return False

    def _leave_out_pooler(self) -> None:
        """Drop the layer above the first token, on which no stored vector depends, if the model works without it."""
        pooler = getattr(self.model, "pooler", None)
        if isinstance(pooler, nn.Module):
            inputs = self._pad(self.tokenize(_PROBE))
            with torch.inference_mode():
                expected = self._layer_output(inputs)
                self.model.pooler = None
                if not self._same(self._layer_output, inputs, expected):
                    self.model.pooler = pooler

    def _same_without_mask(self) -> bool:
        """Whether texts without padding may go without a mask. A single text is a tenth faster so."""
        inputs = self._pad(self.tokenize(_PROBE[:1]))
        without = {name: values for name, values in inputs.items() if name != "attention_mask"}
        with torch.inference_mode():
            return self._same(self._layer_output, without, self._layer_output(inputs))

    def _ignores_padding(self) -> bool:
        """Whether a text's vectors stay what they are beside a longer one. ConvBERT and FNet mix the padding in."""
        tokens = [t for t in self.tokenize(["", *_PROBE]) if len(t.ids)]
        with torch.inference_mode():
            together = self._layer_output(self._pad(tokens))
            for one, padded in zip(tokens, together, strict=True):
                alone = self._layer_output(self._pad([one]))[0]
                if not _alike(padded[: len(alone)], alone):
                    return False
        return True

    # ---------------------------------------------------------------- faster products

    def _pack(self) -> None:
        """Pack the weights, where this torch and processor can, and the vectors of a probe stay what they are."""
        inputs = self._pad(self.tokenize(_PROBE))
        with torch.inference_mode():
            expected = self._layer_output(inputs)
            try:
                unpack = pack(self.model)
            except (AttributeError, RuntimeError):
                return
            try:
                same = _alike(self._layer_output(inputs), expected)
            except (AttributeError, RuntimeError, TypeError):  # an architecture that does more with its weights
                same = False
            if not same:
                unpack()

    # ---------------------------------------------------------------- what comes out

    def _last(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.model(**inputs).last_hidden_state

    def _hidden(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.model(**inputs, output_hidden_states=True).hidden_states[self.layer]

    def _n_positions(self) -> int:
        """Longest text that the position embeddings carry."""
        for name, module in self.model.named_modules():
            if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
                # RoBERTa counts positions from the padding index + 1.
                return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return limit if limit and limit > 0 else 2**31  # XLNet, without a limit, says -1


def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether vectors differ by rounding only: a tenth is far above that, and far below what another text gives."""
    return bool((one - other).abs().max() <= 0.1 * other.abs().max())


@contextmanager
def _quiet_transformers() -> Any:
    """Load without progress bars and notes on unused weights (a model's pooler, say), which mean nothing here."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
