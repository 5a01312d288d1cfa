"""The corpus `python-docs`: the documentation inside the running Python.

In: the standard library's `.py` files, parsed and never imported. Out: `Source`s sorted by id: a module's
docstrings (`json/decoder.py`) or a help topic (`topics/assert`). The first read is cached as one JSON-lines
file. Knows nothing of tokens or models.

The corpus is what the interpreter carries: another Python release gives other texts, and another cache file.
"""

import ast
import hashlib
import json
import os
import sys
import sysconfig
import tempfile
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path

from autointerp.subject.corpus.sources import Source, encodable

EXCLUDED_FOLDERS = frozenset({"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "__pycache__"})
"""A file with one of these among its folders is no part of the corpus: tests, and two bundled applications."""

TOPICS_FILE = "pydoc_data/topics.py"
"""The help topics, as one dict literal; its entries are sources, the file itself is not."""

FORMAT = "autointerp-python-docs-1"


def read_python_docs(cache_dir: Path) -> Iterator[Source]:
    """Yield the sources of the running interpreter's documentation, sorted by id.

    The first read parses the standard library (seconds) and leaves one file under `cache_dir`; later reads
    take that file, or make it again when it is damaged.
    """
    stdlib = Path(sysconfig.get_path("stdlib"))
    path = cache_dir / f"python-docs-{_cache_key(stdlib)}.jsonl"
    sources = _read_cache(path)
    if sources is None:
        sources = sorted(collect_python_docs(stdlib), key=lambda source: source.id)
        _write_cache(path, sources)
    yield from sources


def collect_python_docs(stdlib: Path) -> Iterator[Source]:
    """Yield every source under the folder `stdlib`, without a cache; sources without text are left out."""
    for module_id in module_ids(stdlib):
        code = read_code(stdlib / module_id)
        if code is None:
            continue
        tree = _parse(code)
        if tree is None:
            continue
        if module_id == TOPICS_FILE:
            yield from _topics(tree)
            continue
        text = _docstrings(tree)
        if text:
            yield Source(module_id, text)


def module_ids(stdlib: Path) -> list[str]:
    """Paths of the corpus' files relative to `stdlib`, with forward slashes, sorted."""
    found: list[str] = []
    for folder, subfolders, files in os.walk(stdlib):
        subfolders[:] = [name for name in subfolders if name not in EXCLUDED_FOLDERS]
        relative = Path(folder).relative_to(stdlib)
        found.extend((relative / name).as_posix() for name in files if name.endswith(".py"))
    return sorted(found)


def read_code(path: Path) -> str | None:
    """The text of a Python file by its declared encoding, or None when it cannot be read as such."""
    try:
        with tokenize.open(path) as file:
            return file.read()
    except (OSError, SyntaxError, UnicodeDecodeError):
        return None


def _parse(code: str) -> ast.Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def _docstrings(tree: ast.Module) -> str:
    """The cleaned docstrings of a module, its classes and functions, in source order, one blank line between."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            line = 0 if isinstance(node, ast.Module) else node.lineno
            found.append((line, ast.get_docstring(node) or ""))
    found.sort(key=lambda pair: pair[0])
    return encodable("\n\n".join(text for _, text in found if text.strip()))


def _topics(tree: ast.Module) -> Iterator[Source]:
    """The entries of the first dict literal assigned in `pydoc_data.topics`."""
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
            for name, text in ast.literal_eval(node.value).items():
                if text.strip():
                    yield Source(f"topics/{name}", encodable(text))
            return


def _cache_key(stdlib: Path) -> str:
    named = "\n".join([FORMAT, sys.version, str(stdlib)])
    return hashlib.blake2b(named.encode(), digest_size=8).hexdigest()


def _read_cache(path: Path) -> list[Source] | None:
    """The sources of a cache file, or None when it is missing or not what `_write_cache` left."""
    try:
        header, _, body = path.read_bytes().partition(b"\n")
        if json.loads(header) != _header(body):
            return None
        return [Source(**json.loads(line)) for line in body.splitlines()]
    except (OSError, ValueError, TypeError):
        return None


def _write_cache(path: Path, sources: list[Source]) -> None:
    lines = [json.dumps({"id": source.id, "text": source.text}) + "\n" for source in sources]
    body = "".join(lines).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(json.dumps(_header(body)).encode() + b"\n" + body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _header(body: bytes) -> dict[str, str]:
    return {"format": FORMAT, "blake2b": hashlib.blake2b(body, digest_size=16).hexdigest()}
