"""What the store on disk costs: writing, opening and looking up, reading rows in random order.

Writing is compared with writing the same bytes to plain files (beside, then renamed, no fsync); opening and looking up,
in fresh processes, with hashing the store's files; reading with gathering the same rows from one memory-mapped file, by
token indices and by slices, of which the faster counts. All read from the page cache, and rows are read when the store
has verified its shards. Vectors are random numbers, the same in each shard; keys are random. Linux only.

    python examples/benchmarks/bench_store.py [--texts 1000000] [--tokens 4] [--read-texts 200000]
        [--long-texts 20000] [--long-tokens 60] [--folder where/there/is/room] [--out results.json]
"""

import argparse
import hashlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import common
import numpy as np
from bench_memory import MB, Peak

from skspace import RaggedArray
from skspace._store.token_store import TokenStore

SHARD_BYTES = 64 * 2**20
NAMESPACE = {"benchmark": "bench_store"}
HASHING = "SHA-256 of the same files"


class Corpus:
    """Made-up vectors of `n_texts` texts of `n_tokens` tokens each, in blocks of about 64 MB."""

    def __init__(self, n_texts, n_tokens, n_features):
        self.n_texts, self.n_tokens, self.n_features = n_texts, n_tokens, n_features
        self.keys = np.random.default_rng(0).integers(2**64, size=(n_texts, 2), dtype=np.uint64)
        n_block = min(n_texts, max(1, SHARD_BYTES // (n_tokens * n_features * 2)))
        numbers = np.random.default_rng(1).standard_normal((n_block, n_tokens, n_features), np.float32)
        self.block = numbers.astype(np.float16)

    def blocks(self):
        """Keys and vectors of one shard after the other."""
        for begin in range(0, self.n_texts, len(self.block)):
            keys = self.keys[begin : begin + len(self.block)]
            yield keys, self.block[: len(keys)]

    @property
    def n_bytes(self):
        return self.n_texts * self.n_tokens * self.n_features * 2


def write(folder, blocks):
    """Blocks as shards of a store below `folder`, and the store."""
    store = TokenStore(folder, NAMESPACE)
    for keys, vectors in blocks:
        store.write(keys, list(vectors), [False] * len(keys))
    return store


def files_in(folder):
    return [path for path in Path(folder).rglob("*") if path.is_file()]


# ---------------------------------------------------------------- writing


def writing(corpus, folder, args):
    """Bytes a second of the store and of plain files on a part of the corpus, and bytes a token on disk."""
    blocks = [block for block, _ in zip(corpus.blocks(), range(args.part), strict=False)]
    places = {name: folder / name for name in ("store", "plain")}
    write(places["store"], blocks)
    shards = sorted(places["store"].rglob("*.safetensors"))
    payloads = [path.read_bytes() for path in shards]
    n_bytes = sum(map(len, payloads))

    def plain():
        places["plain"].mkdir()
        for number, payload in enumerate(payloads):
            temporary = places["plain"] / f"{number}.tmp"
            temporary.write_bytes(payload)
            temporary.rename(temporary.with_suffix(".bin"))

    def clean():
        for place in places.values():
            shutil.rmtree(place)

    shutil.rmtree(places["store"])
    times = common.in_turns(args.repeats, store=lambda: write(places["store"], blocks), plain=plain, clean=clean)
    result = {
        "shards": len(shards),
        "store_bytes_per_second": n_bytes / times["store"],
        "plain_bytes_per_second": n_bytes / times["plain"],
        "ratio": times["plain"] / times["store"],
    }
    print(
        f"\n| writing {len(shards)} shards, {n_bytes / MB:,.0f} MB | MB/s | of plain files |\n|---|---|---|\n"
        f"| `TokenStore.write` | {result['store_bytes_per_second'] / MB:,.0f} | {result['ratio']:.2f} |\n"
        f"| plain files | {result['plain_bytes_per_second'] / MB:,.0f} | 1 |",
        flush=True,
    )
    return result


def filling(corpus, folder):
    """The whole corpus into a store."""
    seconds = common.seconds(lambda: write(folder, corpus.blocks()))
    raw = corpus.n_features * 2
    n_bytes = sum(path.stat().st_size for path in files_in(folder))
    per_token = n_bytes / (corpus.n_texts * corpus.n_tokens)
    print(
        f"\n{corpus.n_texts:,} texts of {corpus.n_tokens} tokens: {n_bytes / MB:,.0f} MB in {len(files_in(folder))} "
        f"files, written in {seconds:.1f} s; {per_token:.1f} bytes a token, {per_token / raw:.4f} of the raw {raw}",
        flush=True,
    )
    return {"seconds": seconds, "bytes": n_bytes, "bytes_per_token": per_token, "of_raw": per_token / raw}


# ---------------------------------------------------------------- looking up


def look_up_here(folder, wanted, n_features):
    """Open and look up in this process, which has done nothing else yet; prints JSON."""
    wanted = np.load(wanted)
    stores, found = [], []
    steps = {
        "opening, and looking up a text that it lacks": lambda: open_and_ask(folder, stores),
        "first look-up": lambda: found.append(stores[0].lookup(wanted[0])),
        "second look-up": lambda: found.append(stores[0].lookup(wanted[1])),
        "reading the rows": lambda: as_ragged(found[1], n_features).values,
    }
    seconds, added = {}, {}
    with Peak(interval=0.002) as peak:
        for name, step in steps.items():
            seconds[name] = common.seconds(step)
            peak.sample()
            added[name] = peak.after - peak.before
    if any(len(lookup.missing) for lookup in found):
        raise SystemExit("The store lacks texts that were written to it.")
    seconds[HASHING] = common.seconds(lambda: [digest(path) for path in files_in(folder)])
    print(json.dumps({"seconds": seconds, "added": added, "peak": peak.anonymous - peak.before}))


def open_and_ask(folder, stores):
    """Read the index of every shard and nothing else."""
    stores.append(TokenStore(folder, NAMESPACE))
    if not len(stores[0].lookup(np.array([[1, 2]], np.uint64)).missing):
        raise SystemExit("The store knows a text that was never written to it.")


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def looking_up(folder, corpus, args):
    """Medians of several fresh processes, other keys for each."""
    wanted, runs = folder.with_name("wanted.npy"), []
    for seed in range(args.processes):
        np.save(wanted, np.random.default_rng(seed).choice(corpus.keys, (2, args.lookups)))
        command = [sys.executable, __file__, "--child", str(folder), str(wanted), "--features", str(args.features)]
        output = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
        runs.append(json.loads(output.splitlines()[-1]))
    seconds, added = (
        {name: statistics.median(run[kind][name] for run in runs) for name in runs[0][kind]}
        for kind in ("seconds", "added")
    )
    peak = max(run["peak"] for run in runs)
    print(
        f"\n| fresh process, {args.texts:,} texts, {args.lookups:,} keys | seconds | of hashing | memory added so far |"
    )
    print("|---|---|---|---|")
    for name in seconds:
        memory = f"{added[name] / MB:.1f} MB" if name in added else ""
        print(f"| {name} | {seconds[name]:.4f} | {seconds[name] / seconds[HASHING]:.3f} | {memory} |")
    print(
        f"\nPeak of the anonymous memory added: {peak / MB:.1f} MB, {peak / args.texts:.0f} bytes a text of the store "
        f"(the largest of {len(runs)} processes; the rest are medians).",
        flush=True,
    )
    return {"seconds": seconds, "added": added, "peak": peak, "processes": len(runs)}


# ---------------------------------------------------------------- reading


def as_ragged(found, n_features):
    """What TokenEncoder makes of an answer of the store."""
    return RaggedArray.from_segments(
        found.segments, found.segment, found.start, found.length, n_features=n_features, dtype=np.float16
    )


def write_flat(path, corpus):
    """All vectors in one file without anything else, mapped into memory."""
    with open(path, "wb") as file:
        for _, vectors in corpus.blocks():
            file.write(vectors.data)
    mapped = np.memmap(path, np.float16, "r", shape=(corpus.n_texts * corpus.n_tokens, corpus.n_features))
    return np.asarray(mapped)  # the same memory without memmap's slower indexing


def gather_indices(flat, starts, lengths):
    stops = np.cumsum(lengths)
    return flat[np.arange(stops[-1]) + np.repeat(starts - (stops - lengths), lengths)]


def gather_slices(flat, starts, lengths):
    out = np.empty((lengths.sum(), flat.shape[1]), flat.dtype)
    begin = 0
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        out[begin : begin + length] = flat[start : start + length]
        begin += length
    return out


def reading(n_texts, n_tokens, folder, args):
    """Tokens a second out of the store and out of a mapped file, the same random batches of texts."""
    corpus = Corpus(n_texts, n_tokens, args.features)
    rows = as_ragged(write(folder, corpus.blocks()).lookup(corpus.keys), args.features)
    flat = write_flat(folder / "flat", corpus)
    starts, lengths = np.arange(n_texts) * n_tokens, np.full(n_texts, n_tokens)
    generator = np.random.default_rng(2)
    batches = [generator.choice(n_texts, min(n_texts, args.batch), replace=False) for _ in range(args.batches)]
    for batch in batches:  # also what brings the pages of both files into memory
        wanted = gather_slices(flat, starts[batch], lengths[batch])
        same = np.array_equal(rows[batch].values, wanted)
        if not (same and np.array_equal(gather_indices(flat, starts[batch], lengths[batch]), wanted)):
            raise SystemExit("The store and the flat file differ.")

    def over_batches(read):
        return lambda: [read(batch) for batch in batches]

    times = common.in_turns(
        args.repeats,
        store=over_batches(lambda batch: rows[batch].values),
        indices=over_batches(lambda batch: gather_indices(flat, starts[batch], lengths[batch])),
        slices=over_batches(lambda batch: gather_slices(flat, starts[batch], lengths[batch])),
    )
    total = sum(map(len, batches)) * n_tokens
    result = {f"{name}_tokens_per_second": total / seconds for name, seconds in times.items()}
    result["ratio"] = min(times["indices"], times["slices"]) / times["store"]
    print(
        f"| {n_texts:,} texts of {n_tokens} | "
        + " | ".join(f"{total / times[name]:,.0f}" for name in times)
        + f" | {result['ratio']:.2f} |",
        flush=True,
    )
    return result


# ---------------------------------------------------------------- everything


def check_room(folder, corpus, args):
    """What is on disk at the same time at most; stop before the disk is full."""
    n_read = max(args.read_texts * args.tokens, args.long_texts * args.long_tokens) * args.features * 2
    part = min(corpus.n_bytes, args.part * corpus.block.nbytes)
    needed = 1.05 * max(corpus.n_bytes, 2 * part, 2 * n_read)
    free = shutil.disk_usage(folder).free
    print(f"Needs {needed / 1e9:.1f} GB in {folder.parent}, where {free / 1e9:.1f} GB are free.", flush=True)
    if needed > free:
        raise SystemExit("That is too little: choose another --folder, or fewer --texts.")


def run(folder, args):
    corpus = Corpus(args.texts, args.tokens, args.features)
    check_room(folder, corpus, args)
    results = {"sizes": {name: value for name, value in vars(args).items() if isinstance(value, int)}}
    results["write"] = writing(corpus, folder, args)
    results["fill"] = filling(corpus, folder / "store")
    results["look up"] = looking_up(folder / "store", corpus, args)
    shutil.rmtree(folder / "store")
    print(
        f"\n| {args.batches} batches of {args.batch} random texts | store, tokens/s | mapped file by indices "
        "| by slices | store to the faster |\n|---|---|---|---|---|"
    )
    for name, sizes in {
        "read": (args.read_texts, args.tokens),
        "read long": (args.long_texts, args.long_tokens),
    }.items():
        results[name] = reading(*sizes, folder / name, args)
        shutil.rmtree(folder / name)
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--tokens", type=int, default=4, help="a text")
    parser.add_argument("--features", type=int, default=384)
    parser.add_argument("--part", type=int, default=4, help="shards written in turns with plain files")
    parser.add_argument("--lookups", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=3, help="fresh ones that look up")
    parser.add_argument("--read-texts", type=int, default=200_000)
    parser.add_argument("--long-texts", type=int, default=20_000)
    parser.add_argument("--long-tokens", type=int, default=60)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--batches", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made, instead of the system's place")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        look_up_here(*args.child, args.features)
        return
    print(f"{common.machine()}\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="skspace-store-", dir=args.folder) as folder:
        results = run(Path(folder), args)
    common.save_results(args.out, results)


if __name__ == "__main__":
    main()
