"""Canonical JSON, tagged digests, seeds and file commits: what makes a run repeatable and safe to kill.

Plain values flow in; text, digests and generators flow out. Knows nothing of models, features or stores.
"""

import contextlib
import hashlib
import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from autointerp.files import make_temporary

PACKAGES = ("autointerp", "numpy", "scipy", "torch", "transformer_lens", "transformers", "tokenizers", "openai")


_SEAL = ',"seal":"'
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: object) -> str:
    """One spelling per value: sorted keys, no spaces, no NaN."""
    return _CANONICAL.encode(value)


def seal(values: Mapping[str, object], beside: Mapping[str, object] | None = None) -> str:
    """JSON of an object with a digest of its canonical text as one more value, `seal`.

    Values `beside` come after it and are not sealed, so that the seal of equal work at another time is the same.
    """
    text = canonical_json(values)
    tail = "," + canonical_json(beside)[1:] if beside else "}"
    return f'{text[:-1]}{_SEAL}{digest_bytes([text.encode()])}"{tail}'


def unseal(text: str) -> dict[str, Any]:
    """What `seal` was given, values beside it included.

    Raises:
        ValueError: what was sealed is something else now.
    """
    sealed, _, told = text.rpartition(_SEAL)
    told, _, tail = told.partition('"')
    if told != digest_bytes([sealed.encode() + b"}"]) or tail[:1] not in ("}", ","):
        raise ValueError("its seal does not fit")
    try:
        return dict(json.loads(sealed + tail))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def digest(value: object) -> str:
    """A tagged 160-bit digest of a JSON-able value: `blake2b:` and 40 hex digits."""
    return digest_bytes([canonical_json(value).encode()])


def digest_bytes(pieces: Iterable[bytes]) -> str:
    """A tagged 160-bit digest of bytes that arrive in pieces."""
    state = hashlib.blake2b(digest_size=20)
    for piece in pieces:
        state.update(piece)
    return "blake2b:" + state.hexdigest()


def digest_file(path: Path) -> str:
    """A tagged digest of a file's content."""
    with path.open("rb") as file:
        return digest_bytes(iter(lambda: file.read(1 << 20), b""))


def seed_of(*parts: object) -> int:
    """A 64-bit seed from what the draw is for, so that no draw depends on the order of work."""
    text = canonical_json([str(part) for part in parts]).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def generator(*parts: object) -> np.random.Generator:
    """A random generator for one purpose: `generator(run_seed, feature, step)`."""
    return np.random.Generator(np.random.PCG64(seed_of(*parts)))


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a kill leaves the old content or the new one, never a part."""
    with replace_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def replace_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` when the block ends; a kill or an error leaves the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, file = make_temporary(path)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        commit_file(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)  # a full disk has no room for half of it
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(temporary)):
            error.filename = str(path)  # a write that fails names no file
        raise


def commit_file(temporary: Path, path: Path) -> None:
    """Rename a finished and synced file into place and sync the folder that names it."""
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def package_versions() -> dict[str, str]:
    """Versions of the packages that can move a figure, and of the interpreter."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
