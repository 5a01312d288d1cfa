"""What the demo model, its tokenizer and its dictionaries are trained on, and what is held out.

In: the running interpreter. Out: sources of two kinds, documentation and standard-library code, split by the
hash of their id. A module's docstrings and its code share the id, so both are held out together.
"""

import hashlib
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from autointerp.subject.corpus.python_docs import TOPICS_FILE, module_ids, read_code, read_python_docs
from autointerp.subject.corpus.sources import Source

HELD_OUT_ONE_IN = 20


def is_held_out(source_id: str) -> bool:
    """Whether tokenizer, model and dictionaries must never see the source."""
    digest = hashlib.blake2b(source_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % HELD_OUT_ONE_IN == 0


def read_docs(cache_dir: Path) -> list[Source]:
    """All of `python-docs`, sorted by id."""
    return list(read_python_docs(cache_dir))


def read_stdlib_code() -> list[Source]:
    """The standard library's code less the corpus' exclusions, sorted by id.

    The file of help topics is left out: it holds all topics, and some of them are held out.
    """
    stdlib = Path(sysconfig.get_path("stdlib"))
    named = ((name, read_code(stdlib / name)) for name in module_ids(stdlib) if name != TOPICS_FILE)
    return [Source(name, code) for name, code in named if code and code.strip()]


def corpus_hash(sources: Sequence[Source]) -> str:
    """A tagged digest over ids and texts, in the order given."""
    digest = hashlib.blake2b(digest_size=16)
    for source in sources:
        digest.update(source.id.encode() + b"\0" + source.text.encode(errors="replace") + b"\0")
    return f"blake2b:{digest.hexdigest()}"
