"""Tokens a second of TokenEncoder: against sentence-transformers, its own bare forward pass and the processor's limit.

Same texts, same weights, last layer, at most 256 tokens a text. Tokens are real ones, special ones included, padding
not. sentence-transformers runs with its defaults (32 texts a batch) on the same device. The bare pass is the model call
alone, on the batches that TokenEncoder made of the texts, in as many threads. The limit is bare matrix products: all
linear layers of the model on as many rows as each batch has tokens. With the cache on, each run fills a new folder and
deletes it again.

Further tables: what leaving out the layers above 0.67 gains; how far the types differ, as vectors are kept (float16);
how far a vector depends on the texts beside it; where the time of an encode into an empty cache goes, by cProfile, on
one core.

    SKSPACE_DATA=path/to/data python examples/benchmarks/bench_encode.py [--imdb 300] [--hatexplain 2000]
        [--repeats 5] [--out results.json] [--dtypes auto float32 bfloat16]

On a processor without instructions for bfloat16 leave that one out. The bare pass by size of batch, and nothing else:

    ... bench_encode.py --batch-tokens 512 1024 1536 2048 4096 8192

Ours and the bare pass alone, for more texts:

    ... bench_encode.py --bare --imdb 1500 --hatexplain 20000
"""

import argparse
import cProfile
import pstats
import tempfile
import warnings
from pathlib import Path
from unittest import mock

import common
import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from skspace import TokenEncoder
from skspace._encoding.frozen_transformer import FrozenTransformer
from skspace._encoding.thread_pool import map_in_threads

DTYPES = ("auto", "float32", "bfloat16")  # "auto" is one of the others, called by another name
MAX_LENGTH = 256

# ---------------------------------------------------------------- inside the encoder: all use of private names is here


class BarePass:
    """The model of an encoder, and the padded batches that the encoder makes of some texts."""

    def __init__(self, encoder, texts):
        load(encoder)
        seen = []
        pad = FrozenTransformer._pad

        def watched(transformer, batch):
            seen.append((transformer, pad(transformer, batch)))
            return seen[-1][1]

        with mock.patch.object(FrozenTransformer, "_pad", watched):
            encoder.transform(texts)
        self.transformer, self.batches = seen[0][0], [inputs for _, inputs in seen]
        self.dtype = str(self.transformer.dtype).removeprefix("torch.")
        self.rows = [sum(lengths_of(inputs)) for inputs in self.batches]
        self.n_tokens = sum(self.rows)
        self.padding = 1 - self.n_tokens / sum(inputs["input_ids"].numel() for inputs in self.batches)

    def run(self):
        n_threads = torch.get_num_threads() if self.transformer.device.type == "cpu" else 1
        for _ in map_in_threads(self.call, self.batches, len(self.batches), n_threads):
            pass
        self.wait()

    def wait(self):
        if self.transformer.device.type == "cuda":
            torch.cuda.synchronize()

    def call(self, inputs):
        with torch.inference_mode():
            return self.transformer._layer_output(inputs)

    def products(self):
        """The products of all linear layers on the tokens of each batch, as a function."""
        where, n = {"device": self.transformer.device, "dtype": self.transformer.dtype}, max(self.rows)
        linear = [m for m in self.transformer.model.modules() if type(m).__name__.endswith("Linear")]  # packed or not
        weights = [torch.randn(m.weight.shape).to(**where).T for m in linear]
        sizes = {size for weight in weights for size in weight.shape}
        given = {size: torch.randn(n, size).to(**where) for size in sizes}
        made = {size: torch.empty(n, size, **where) for size in sizes}

        def run():
            with torch.inference_mode():
                for rows in self.rows:
                    for weight in weights:
                        n_in, n_out = weight.shape
                        torch.mm(given[n_in][:rows], weight, out=made[n_out][:rows])
            self.wait()

        return run


def lengths_of(inputs):
    """Tokens of each text of a batch; without padding there is no mask."""
    ids = inputs["input_ids"]
    return inputs.get("attention_mask", torch.ones_like(ids)).sum(1).tolist()


PARTS = {  # functions as cProfile names them: file, names
    "tokenise": ("frozen_transformer.py", {"tokenize"}),
    "pad": ("frozen_transformer.py", {"_pad"}),
    "model call": ("frozen_transformer.py", {"_last", "_hidden"}),
    "forward": ("frozen_transformer.py", {"forward"}),
    "write": ("token_store.py", {"write"}),
    "keys": ("key_index.py", {"text_keys"}),
}


def load(encoder):
    """Load the model, which an encoder does at its first text: no part of any measurement."""
    encoder.transform(["Load the model."])


# ---------------------------------------------------------------- speed


def sentence_transformer():
    model = SentenceTransformer(str(common.minilm_folder()), device=without_cache("auto")._device().type)
    model.max_seq_length = MAX_LENGTH
    return model


def into_new_cache(dtype, texts):
    with tempfile.TemporaryDirectory(prefix="skspace-encode-") as folder:
        TokenEncoder(layer=-1, max_length=MAX_LENGTH, dtype=dtype, cache_dir=folder).transform(texts)


def without_cache(dtype, **params):
    return TokenEncoder(layer=-1, max_length=MAX_LENGTH, dtype=dtype, cache_dir=None, **params)


def ways_to_encode(texts, peer, dtypes):
    """Functions by name, and the number of tokens that each of them encodes."""
    ways = {
        "ST token_embeddings": lambda: peer.encode(texts, output_value="token_embeddings", show_progress_bar=False),
        "ST encode": lambda: peer.encode(texts, show_progress_bar=False),
    }
    bare = {dtype: BarePass(without_cache(dtype), texts) for dtype in dtypes}
    for dtype, one in bare.items():
        ways[f"{dtype}, cache off"] = lambda dtype=dtype: without_cache(dtype).transform(texts)
        ways[f"{dtype}, cache on"] = lambda dtype=dtype: into_new_cache(dtype, texts)
        ways[f"{one.dtype} bare"], ways[f"{one.dtype} limit"] = one.run, one.products()
    n_tokens = bare["auto"].n_tokens
    n_peer = sum(map(len, ways["ST token_embeddings"]()))
    if n_peer != n_tokens:
        raise SystemExit(f"TokenEncoder makes {n_tokens} tokens of the texts, sentence-transformers {n_peer}.")
    return ways, n_tokens, {dtype: one.dtype for dtype, one in bare.items()}


def speed(name, texts, peer, args):
    ways, n_tokens, computed = ways_to_encode(texts, peer, args.dtypes)
    seconds = common.in_turns(args.repeats, **ways)
    rates = {way: n_tokens / taken for way, taken in seconds.items()}
    print(
        f"\n| {name}: {len(texts)} texts, {n_tokens} tokens | tokens/s | to ST token_embeddings | to ST encode "
        "| to the bare pass | bare pass to the limit |\n|---|---|---|---|---|---|"
    )
    for way in ("ST token_embeddings", "ST encode"):
        print(f"| {way} | {rates[way]:,.0f} | {compared(rates, way)} | | |")
    for dtype in args.dtypes:
        bare, limit = rates[f"{computed[dtype]} bare"], rates[f"{computed[dtype]} limit"]
        for way in (f"{dtype}, cache off", f"{dtype}, cache on"):
            ratios = f"{compared(rates, way)} | {rates[way] / bare:.2f} | {bare / limit:.2f}"
            print(f"| TokenEncoder, {way} | {rates[way]:,.0f} | {ratios} |", flush=True)
    for dtype in sorted(set(computed.values())):
        bare, limit = f"{dtype} bare", f"{dtype} limit"
        ratio = f"{rates[bare] / rates[limit]:.2f}"
        print(f"| bare pass, {dtype} | {rates[bare]:,.0f} | {compared(rates, bare)} | 1 | {ratio} |")
        print(f"| limit, {dtype} | {rates[limit]:,.0f} | {compared(rates, limit)} | | 1 |", flush=True)
    print(f"\n'auto' computed in {computed['auto']}.")
    return {"texts": len(texts), "tokens": n_tokens, "computed": computed, "tokens_per_second": rates}


def compared(rates, way):
    return f"{rates[way] / rates['ST token_embeddings']:.2f} | {rates[way] / rates['ST encode']:.2f}"


def gain_of_stopping(name, texts, repeats, lower=0.67):
    """Time of the last layer to that of a lower one."""
    gains = {}
    for dtype in ("auto", "float32"):
        encoders = {"last": without_cache(dtype), "lower": without_cache(dtype).set_params(layer=lower)}
        ways = {key: lambda encoder=encoder: encoder.transform(texts) for key, encoder in encoders.items()}
        seconds = common.in_turns(repeats, **ways)
        gains[dtype] = seconds["last"] / seconds["lower"]
        print(f"| {name} | {dtype} | {gains[dtype]:.2f} |", flush=True)
    return gains


def by_batch_tokens(name, texts, budgets, args):
    """The bare pass by token budget."""
    results = {}
    for dtype in named(args):
        passes = {str(n): BarePass(without_cache(dtype, batch_tokens=n), texts) for n in budgets}
        seconds = common.in_turns(args.repeats, **{n: one.run for n, one in passes.items()})
        best = min(seconds.values())
        for n, one in passes.items():
            rate = one.n_tokens / seconds[n]
            results[f"{dtype} {n}"] = {"padding": one.padding, "tokens_per_second": rate, "to_best": best / seconds[n]}
            print(f"| {name} | {dtype} | {n} | {one.padding:.1%} | {rate:,.0f} | {best / seconds[n]:.2f} |", flush=True)
    return results


# ---------------------------------------------------------------- exactness


def cosines(texts, dtypes):
    """Mean and smallest cosine of a token's vector with that of float32."""
    exact = without_cache("float32").transform(texts).values.astype(np.float32)
    results = {}
    for dtype in dtypes:
        vectors = without_cache(dtype).transform(texts).values.astype(np.float32)
        products = np.einsum("td,td->t", exact, vectors)
        cosine = products / np.linalg.norm(exact, axis=1) / np.linalg.norm(vectors, axis=1)
        results[dtype] = {"mean": float(cosine.mean()), "min": float(cosine.min())}
    return results


def dependence_on_company(dtype, texts):
    """Largest ||a - b|| / ||a|| of a token encoded alone with its text and in a batch: as computed, as kept."""
    bare = BarePass(without_cache(dtype), texts)
    computed = kept = 0.0
    for inputs in bare.batches:
        together = bare.call(inputs)
        for row, length in enumerate(lengths_of(inputs)):
            alone = bare.call({name: tensor[row : row + 1, :length] for name, tensor in inputs.items()})[0]
            beside = together[row, :length]
            computed = max(computed, largest_difference(alone, beside))
            kept = max(kept, largest_difference(alone.half(), beside.half()))
    return {"computed": computed, "kept": kept}


def largest_difference(a, b):
    a, b = a.double(), b.double()
    return float(((a - b).norm(dim=1) / a.norm(dim=1)).max())


# ---------------------------------------------------------------- where the time goes


def shares(dtype, texts):
    """Shares of the time of one encode into an empty cache."""
    load(without_cache(dtype))
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # then everything happens in the thread that is profiled
    profile = cProfile.Profile()
    profile.runcall(into_new_cache, dtype, texts)
    torch.set_num_threads(n_threads)
    stats = pstats.Stats(profile)
    spent = {part: cumulative(stats, *where) for part, where in PARTS.items()}
    # the digests of values and index; text_keys counts for itself
    hashing = sum(own for (_, _, name), (_, _, own, _, _) in stats.stats.items() if "sha256" in name or "HASH" in name)
    result = {
        "tokenise": spent["tokenise"],
        "pad": spent["pad"],
        "model call": spent["model call"],
        "convert and split": spent["forward"] - spent["pad"] - spent["model call"],
        "hash": spent["keys"] + hashing,
        "write": spent["write"] - hashing,
    }
    result["rest"] = stats.total_tt - sum(result.values())
    return {part: seconds / stats.total_tt for part, seconds in result.items()}


def cumulative(stats, file, names):
    return sum(
        seconds
        for (path, _, name), (_, _, _, seconds, _) in stats.stats.items()
        if name in names and Path(path).parts[-2:] == ("skspace", file)
    )


# ---------------------------------------------------------------- everything


def samples(args):
    """Distinct texts, since TokenEncoder encodes a repeated one once."""
    sizes = {"imdb": args.imdb, "hatexplain": args.hatexplain}
    return {name: list(dict.fromkeys(common.read(name, "train")[0]))[:n] for name, n in sizes.items() if n}


def named(args):
    """The types asked for, each once."""
    return [dtype for dtype in args.dtypes if dtype != "auto"]


def all_tables(texts, args):
    peer = sentence_transformer()
    results = {"sentence-transformers computed in": str(next(peer.parameters()).dtype)}
    results["speed"] = {name: speed(name, sample, peer, args) for name, sample in texts.items()}
    print("\n| set | dtype | time of the last layer to layer 0.67 |\n|---|---|---|")
    results["layer 0.67"] = {name: gain_of_stopping(name, sample, args.repeats) for name, sample in texts.items()}
    print("\n| set | dtype | cosine with float32, a token: mean | smallest |\n|---|---|---|---|")
    results["cosine"] = {
        name: cosines(sample, [dtype for dtype in args.dtypes if dtype != "float32"]) for name, sample in texts.items()
    }
    for name, found in results["cosine"].items():
        for dtype, cosine in found.items():
            print(f"| {name} | {dtype} | {cosine['mean']:.6f} | {cosine['min']:.6f} |", flush=True)
    results["company"] = print_company(texts, args)
    results["shares"] = print_shares(texts, args)
    return results


def print_company(texts, args):
    print("\n| set | dtype | largest difference alone / in a batch: computed | kept in float16 |\n|---|---|---|---|")
    results = {}
    for name, sample in texts.items():
        for dtype in named(args):
            found = results[f"{name} {dtype}"] = dependence_on_company(dtype, sample[: args.company])
            print(f"| {name} | {dtype} | {found['computed']:.1e} | {found['kept']:.1e} |", flush=True)
    return results


def print_shares(texts, args):
    results = {}
    for name, sample in texts.items():
        for dtype in named(args):
            found = shares(dtype, sample)
            if not results:
                print(f"\n| set | dtype | {' | '.join(found)} |\n|---|---|{'---|' * len(found)}")
            results[f"{name} {dtype}"] = found
            print(f"| {name} | {dtype} | {' | '.join(f'{share:.1%}' for share in found.values())} |", flush=True)
    return results


def bare_table(texts, args):
    """What stands around the bare pass, of which beginning and end are as long for few texts as for many."""
    print("| set | texts | tokens | tokens/s, bare pass | cache off, to the bare pass | cache on |")
    print("|---|---|---|---|---|---|")
    results = {}
    for name, sample in texts.items():
        bare = BarePass(without_cache("auto"), sample)
        ways = {
            "bare": bare.run,
            "off": lambda sample=sample: without_cache("auto").transform(sample),
            "on": lambda sample=sample: into_new_cache("auto", sample),
        }
        seconds = results[name] = common.in_turns(args.repeats, **ways)
        ratios = " | ".join(f"{seconds['bare'] / seconds[way]:.2f}" for way in ("off", "on"))
        rate = bare.n_tokens / seconds["bare"]
        print(f"| {name} | {len(sample):,} | {bare.n_tokens:,} | {rate:,.0f} | {ratios} |", flush=True)
    return results


def budget_table(texts, args):
    print("| set | dtype | batch_tokens | padding | tokens/s, bare pass | to the best |\n|---|---|---|---|---|---|")
    return {name: by_batch_tokens(name, sample, args.batch_tokens, args) for name, sample in texts.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imdb", type=int, default=300, help="texts; 0 leaves the set out")
    parser.add_argument("--hatexplain", type=int, default=2000, help="texts; 0 leaves the set out")
    parser.add_argument("--company", type=int, default=64, help="texts of each set that are encoded one at a time too")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtypes", nargs="+", default=DTYPES, choices=DTYPES)
    parser.add_argument("--batch-tokens", type=int, nargs="+", help="print the bare pass by size of batch instead")
    parser.add_argument("--bare", action="store_true", help="print ours against the bare pass alone")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    print(f"{common.machine('sentence-transformers')}; {torch.get_num_threads()} threads\n", flush=True)
    warnings.filterwarnings("ignore", message=".* are longer than max_length")
    texts = samples(args)
    tables = budget_table if args.batch_tokens else bare_table if args.bare else all_tables
    results = tables(texts, args)
    common.save_results(args.out, results)


if __name__ == "__main__":
    main()
