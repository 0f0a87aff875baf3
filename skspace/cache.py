"""Care for the embedding cache: what it holds, whether it is sound, and how to make it smaller.

From Python ``skspace.cache.info()``, `verify`, `evict` and `clear`; from a shell ``python -m skspace.cache``. It
loads no model and no torch. Everything takes the cache folder as `cache_dir`, by default ``$SKSPACE_CACHE_DIR`` or the
user's cache folder, and may be used while other processes read and write there.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skspace._files.open_files import open_to_read
from skspace._runtime.messages import warn
from skspace._store.cache_folder import cache_folder, namespace_folders, shard_files, size_in_bytes, version_folder
from skspace._store.cache_folder import evict as evict_files
from skspace._store.namespace_folder import NamespaceFolder, clear_folder
from skspace._store.shard import FORMAT
from skspace._store.token_store import TokenStore

__all__ = ["clear", "evict", "info", "verify"]

_DESCRIPTION = "Care for skspace's embedding cache."
_EPILOG = "verify, evict and clear accept --dry-run after their name: report what would be done, and do nothing."
_MAX_DESCRIPTION_BYTES = 2**20


def info(cache_dir: str | os.PathLike[str] = "auto") -> list[dict[str, Any]]:
    """What the cache holds, a dict a namespace, that is, a way of encoding.

    Parameters
    ----------
    cache_dir : str or Path, default="auto"

    Returns
    -------
    list of dict
        ``folder``, ``n_bytes`` and ``n_shards`` of the files, ``last_used`` (seconds since the epoch, None where there
        is no file), ``namespace`` (model, layer, max_length …; None if its description is lost).
    """
    return [_describe(folder) for folder in namespace_folders(cache_dir)]


def verify(cache_dir: str | os.PathLike[str] = "auto", *, dry_run: bool = False) -> int:
    """Check every file against its checksums; delete, with a warning, those that fail.

    Parameters
    ----------
    cache_dir : str or Path, default="auto"
    dry_run : bool, default=False
        Warn only.

    Returns
    -------
    int
        Number of files that failed. Their texts are encoded again when they are needed. Those of a namespace whose
        description is lost cannot be checked, with a warning.
    """
    failed = 0
    for folder in namespace_folders(cache_dir):
        if (store := _store(folder)) is not None:
            failed += store.verify(dry_run=dry_run)
        elif files := shard_files(folder):
            warn(
                f"{len(files)} files in {folder} cannot be checked, since what they hold is described nowhere: its "
                "namespace.json is missing or damaged. It is written again when the encoder is used again; until then "
                f"clear(namespace={folder.name!r}) deletes them."
            )
    return failed


def evict(max_bytes: int, cache_dir: str | os.PathLike[str] = "auto", *, dry_run: bool = False) -> int:
    """Delete the least recently used files until those left take no more than `max_bytes`.

    Parameters
    ----------
    max_bytes : int
    cache_dir : str or Path, default="auto"
    dry_run : bool, default=False
        Delete nothing.

    Returns
    -------
    int
        Bytes that were deleted, or would be. A process that is reading such a file can finish.

    Raises
    ------
    ValueError
        If `max_bytes` is negative.
    """
    if max_bytes < 0:
        raise ValueError(f"max_bytes must be 0 or more. Got {max_bytes} instead.")
    return sum(file.n_bytes for file in evict_files(max_bytes, cache_dir, dry_run=dry_run))


def clear(cache_dir: str | os.PathLike[str] = "auto", *, namespace: str | None = None, dry_run: bool = False) -> int:
    """Delete all vectors, or those of one namespace.

    Parameters
    ----------
    cache_dir : str or Path, default="auto"
    namespace : str, default=None
        The last part of a ``folder`` of `info`.
    dry_run : bool, default=False
        Delete nothing.

    Returns
    -------
    int
        Bytes that were deleted, or would be.

    Raises
    ------
    ValueError
        If there is no such namespace; the message lists the existing ones.
    """
    folders = namespace_folders(cache_dir)
    if namespace is not None:
        names = [folder.name for folder in folders]
        if namespace not in names:
            raise ValueError(
                f"namespace must be one of those in {version_folder(cache_dir)}: "
                f"{', '.join(names) or '(there is none)'}. Got {namespace!r} instead."
            )
        folders = [folder for folder in folders if folder.name == namespace]
    n_bytes = sum(file.n_bytes for folder in folders for file in shard_files(folder))
    if not dry_run:
        for folder in folders:
            clear_folder(folder)
    return n_bytes


def _describe(folder: Path) -> dict[str, Any]:
    files = shard_files(folder)
    return {
        "folder": str(folder),
        "n_bytes": sum(file.n_bytes for file in files),
        "n_shards": len(files),
        "last_used": max((file.last_used for file in files), default=None),
        "namespace": _namespace(folder),
    }


def _namespace(folder: Path) -> dict[str, Any] | None:
    """What namespace.json says; None where it is lost, damaged, or not what the folder's name was made from."""
    try:
        with open(folder / "namespace.json", "rb", opener=open_to_read) as file:
            namespace = json.loads(file.read(_MAX_DESCRIPTION_BYTES))
        if namespace.pop("format") != FORMAT:
            return None
        place = NamespaceFolder(folder.parent.parent, namespace, "")
    except (OSError, ValueError, RecursionError, AttributeError, KeyError, TypeError):
        return None
    return namespace if place.path == folder else None


def _store(folder: Path) -> TokenStore | None:
    namespace = _namespace(folder)
    return None if namespace is None else TokenStore(folder.parent.parent, namespace)


# ---------------------------------------------------------------- python -m skspace.cache


def _main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m skspace.cache", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("--cache-dir", default="auto", help="default: $SKSPACE_CACHE_DIR or the user's cache folder")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="what the cache holds")
    check = commands.add_parser("verify", help="check all files, and delete those that are damaged")
    shrink = commands.add_parser("evict", help="delete the least recently used files")
    shrink.add_argument("max_bytes", type=_size, help="what may be left, such as 500M or 20G")
    empty = commands.add_parser("clear", help="delete all vectors, or those of one namespace")
    empty.add_argument("namespace", nargs="?", help="only this one of those that info names")
    for command in (check, shrink, empty):
        command.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    options = parser.parse_args(arguments)
    try:
        lines, status = _COMMANDS[options.command](options)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return status


def _info_lines(options: argparse.Namespace) -> tuple[list[str], int]:
    folder = cache_folder(options.cache_dir)
    lines = [f"cache folder: {folder}{'' if folder.is_dir() else ' (does not exist yet)'}"]
    described = info(options.cache_dir)
    for namespace in described:
        used = namespace["last_used"]
        when = "empty" if used is None else time.strftime("last used %Y-%m-%d %H:%M", time.localtime(used))
        lines.append(
            f"{_readable(namespace['n_bytes']):>9}  {namespace['n_shards']:5d} files  {when}  "
            f"{Path(namespace['folder']).name}"
        )
        settings = namespace["namespace"]
        described_as = "no description" if settings is None else ", ".join(f"{k} {v}" for k, v in settings.items())
        lines.append(f"           {described_as}")
    lines.append(f"{_readable(sum(namespace['n_bytes'] for namespace in described)):>9}  in all")
    return lines, 0


def _verify_lines(options: argparse.Namespace) -> tuple[list[str], int]:
    failed = verify(options.cache_dir, dry_run=options.dry_run)
    unknown = sum(len(shard_files(f)) for f in namespace_folders(options.cache_dir) if _namespace(f) is None)
    done = "would be deleted" if options.dry_run else "deleted"
    lines = [f"{failed} damaged files {done}"] * bool(failed) + [f"{unknown} files not checked"] * bool(unknown)
    return lines or ["all files are sound"], 1 if lines else 0


def _evict_lines(options: argparse.Namespace) -> tuple[list[str], int]:
    return [_deleted(evict(options.max_bytes, options.cache_dir, dry_run=options.dry_run), options)], 0


def _clear_lines(options: argparse.Namespace) -> tuple[list[str], int]:
    return [_deleted(clear(options.cache_dir, namespace=options.namespace, dry_run=options.dry_run), options)], 0


def _deleted(n_bytes: int, options: argparse.Namespace) -> str:
    return f"{_readable(n_bytes)} {'would be deleted' if options.dry_run else 'deleted'}"


_COMMANDS = {"info": _info_lines, "verify": _verify_lines, "evict": _evict_lines, "clear": _clear_lines}


def _size(text: str) -> int:
    if (n_bytes := size_in_bytes(text)) is None:
        raise argparse.ArgumentTypeError(f"a size such as 500M or 20G is expected, got {text!r}")
    return n_bytes


def _readable(n_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.3g} GiB"


if __name__ == "__main__":
    sys.exit(_main())
