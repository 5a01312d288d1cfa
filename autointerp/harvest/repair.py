"""Finding what changed on disk since a harvest wrote it, and making room for it to be made again.

A dictionary's folder flows in; damaged files are deleted, with what was computed from them, so that the next pass makes
just these. Knows no model and no torch.
"""

from pathlib import Path

from autointerp.errors import RunError
from autointerp.harvest.arrays import map_arrays
from autointerp.harvest.events import digests
from autointerp.harvest.shards import Shard
from autointerp.provenance import digest_file


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
    for path in damaged:
        path.unlink()
        manifest.unlink(missing_ok=True)
        if path.name.startswith("shard-"):
            (folder / "stats.safetensors").unlink(missing_ok=True)
    return [path.name for path in damaged]


def _is_whole(path: Path, digest: str | None) -> bool:
    if digest is not None:
        return digest_file(path) == digest
    try:
        if path.name.startswith("shard-"):
            Shard(path, context=1).verify()
        else:
            map_arrays(path)
    except RunError:
        return False
    return True
