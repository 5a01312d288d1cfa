"""Finding what changed on disk since a harvest wrote it, and making room for it to be made again.

A harvest's folder flows in; damaged files are deleted, with what was computed from them, so that the next pass makes
just these. Knows no model and no torch.
"""

from pathlib import Path

from autointerp.errors import RunError, UsageError
from autointerp.harvest.arrays import map_arrays
from autointerp.harvest.events import digests, read_manifest
from autointerp.harvest.shards import Shard
from autointerp.harvest.tokens import CORPUS_FOLDER, KEPT, Corpus
from autointerp.provenance import digest_file, seal, unseal, write_atomically


def discard_damaged_corpus(harvest: Path) -> list[str]:
    """Delete what is damaged of a harvest's tokens; returns the names. Of damaged tokens `corpus.json` is deleted.

    They are then read from the text again.
    """
    folder = harvest / CORPUS_FOLDER
    if not (folder / "corpus.json").is_file():
        return []
    damaged = []
    if (folder / KEPT).is_file() and not _opens(folder / KEPT):
        (folder / KEPT).unlink()
        damaged.append(KEPT)
    try:
        corpus = Corpus.open_whole(harvest)
        changed = [name for name, digest in corpus.file_digests.items() if not _has_digest(folder / name, digest)]
    except RunError:
        changed = ["corpus.json or sources.jsonl"]
    except UsageError:
        return damaged  # of another version
    if not _opens(folder / "rows.safetensors"):
        changed.append("rows.safetensors")
    if changed:
        (folder / "corpus.json").unlink()
    return damaged + changed


def discard_damaged(folder: Path) -> list[str]:
    """Delete the damaged files of one dictionary's harvest; returns their names.

    A finished harvest is held against the digests in its manifest, another against the checksums inside its files.
    """
    manifest = folder / "manifest.json"
    try:
        known = digests(folder) if manifest.is_file() else None
    except RunError:
        manifest.unlink()
        return [manifest.name, *discard_damaged(folder)]
    present = sorted(path for path in folder.glob("*.safetensors"))
    damaged = [path for path in present if not _is_whole(path, None if known is None else known.get(path.name))]
    names = [*_mend_plan(folder), *(path.name for path in damaged)]
    for path in damaged:
        path.unlink()
        manifest.unlink(missing_ok=True)
        if path.name.startswith("shard-"):
            (folder / "stats.safetensors").unlink(missing_ok=True)
    return names


def _mend_plan(folder: Path) -> list[str]:
    """Take a damaged plan from the manifest; where there is none, the next start makes one of its own settings."""
    path = folder / "plan.json"
    try:
        unseal(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except ValueError:
        path.unlink()
        if (folder / "manifest.json").is_file():
            write_atomically(path, seal(read_manifest(folder)["plan"]))
        return [path.name]
    return []


def _is_whole(path: Path, digest: str | None) -> bool:
    if digest is not None:
        return _has_digest(path, digest)
    if not path.name.startswith("shard-"):
        return _opens(path)
    try:
        Shard(path, context=1).verify()
    except RunError:
        return False
    return True


def _has_digest(path: Path, digest: str) -> bool:
    return path.is_file() and digest_file(path) == digest


def _opens(path: Path) -> bool:
    try:
        map_arrays(path)
    except RunError:
        return False
    return True
