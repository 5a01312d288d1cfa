"""The corpus `python-docs`, on a small made-up standard library and on the real one."""

from pathlib import Path

import pytest

from autointerp.subject.corpus.python_docs import collect_python_docs, read_python_docs
from autointerp.subject.corpus.sources import Source

MODULE = '''"""Module.

    Indented.
"""

raise RuntimeError("imported")


class Thing:
    """A thing."""

    async def act(self):
        """Act."""

        def inner():
            """Inner."""


def bare():
    return 1


def last():
    """Last."""
'''

TOPICS = 'topics = {"assert": "The assert statement", "blank": " ", "with": "The with statement"}\n'


@pytest.fixture
def stdlib(tmp_path: Path) -> Path:
    root = tmp_path / "stdlib"
    files: dict[str, str | bytes] = {
        "package/module.py": MODULE,
        "plain.py": "x = 1\n",
        "pydoc_data/topics.py": TOPICS,
        "broken.py": "def (:\n",
        "null.py": b'"""Null."""\0',
        "notutf8.py": b'"""\xff\xfe"""\n',
        "latin.py": b'# coding: latin-1\n"""Caf\xe9."""\n',
        "lone.py": '"""A \\ud800 lone surrogate."""\n',
        "test/test_x.py": '"""No."""\n',
        "package/tests/test_y.py": '"""No."""\n',
        "idlelib/editor.py": '"""No."""\n',
        "lib2to3/main.py": '"""No."""\n',
        "site-packages/other.py": '"""No."""\n',
    }
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def test_docstrings_in_source_order_and_topics(stdlib: Path) -> None:
    """Walking a tree breadth first puts `last` before `Act`; importing would raise."""
    found = {source.id: source.text for source in collect_python_docs(stdlib)}
    assert found == {
        "latin.py": "Café.",
        "lone.py": "A ? lone surrogate.",
        "package/module.py": "Module.\n\nIndented.\n\nA thing.\n\nAct.\n\nInner.\n\nLast.",
        "topics/assert": "The assert statement",
        "topics/with": "The with statement",
    }


def test_second_read_takes_the_cache_and_gives_the_same(
    stdlib: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(stdlib))
    cache = tmp_path / "cache"
    first = list(read_python_docs(cache))
    assert [source.id for source in first] == sorted(source.id for source in first)
    (stdlib / "package" / "module.py").unlink()
    assert list(read_python_docs(cache)) == first
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("damage", [b"", b"{}\n", b"not json", None])
def test_a_damaged_cache_file_is_made_again(
    stdlib: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes | None
) -> None:
    """A crash or a full disk can leave half a file; half a corpus would be worse than none."""
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(stdlib))
    cache = tmp_path / "cache"
    first = list(read_python_docs(cache))
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert list(read_python_docs(cache)) == first
    assert path.read_bytes() == whole


def test_the_running_interpreters_corpus(tmp_path: Path) -> None:
    """Some sources are in every Python; none may come from tests, and every text encodes."""
    sources = list(read_python_docs(tmp_path))
    by_id = {source.id: source for source in sources}
    assert len(by_id) == len(sources) > 300
    assert "JSON" in by_id["json/decoder.py"].text
    assert any(name.startswith("topics/") for name in by_id)
    assert not any(name.startswith(("test/", "idlelib/", "lib2to3/")) or "/tests/" in name for name in by_id)
    assert all(source.text.encode() for source in sources)
    assert isinstance(sources[0], Source)
