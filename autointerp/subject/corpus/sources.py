"""The unit every corpus reader yields, one named piece of text, and how a reader goes on where another stopped.

In: nothing. Out: `Source`, the `SourceStream` protocol, and its plainest form. Knows no file, token or model.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

Position = dict[str, object]
"""Where the next source begins: JSON values, understood only by the stream that gave it."""


@dataclass(frozen=True)
class Source:
    """One named text of a corpus."""

    id: str
    """Name, unique within its corpus; parts of the corpus are chosen by its hash, so it never changes."""
    text: str
    """The whole text, which always encodes as UTF-8; empty where the corpus holds a null."""
    mended: bool = False
    """Whether the text had characters that UTF-8 cannot hold, now question marks."""


class SourceStream(Protocol):
    """A corpus that is read once, in a fixed order, from its start or from a position on."""

    @property
    def fingerprint(self) -> object:
        """JSON values that say what is read; a position is of no use where they differ."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What is left out of the corpus, in sentences."""
        ...

    def read(self, position: Position | None) -> Iterator[Source]:
        """The sources from a position on; from the first where None."""
        ...

    def position(self) -> Position:
        """Where the source after the last one read begins."""
        ...

    def share(self) -> float:
        """Part of the corpus that was read, 0 to 1; 0 also where it cannot be told."""
        ...


class ListedSources:
    """Sources that a function lists again in the same order each time it is called."""

    notes: tuple[str, ...] = ()

    def __init__(self, name: str, listed: Callable[[], Iterable[Source]]) -> None:
        self.fingerprint: object = name
        self._listed = listed
        self._done, self._all = 0, 0

    def read(self, position: Position | None) -> Iterator[Source]:
        """As `SourceStream`."""
        sources = list(self._listed())
        self._done, self._all = int(str((position or {}).get("source", 0))), len(sources)
        for source in sources[self._done :]:
            self._done += 1
            yield source

    def position(self) -> Position:
        """As `SourceStream`."""
        return {"source": self._done}

    def share(self) -> float:
        """As `SourceStream`."""
        return self._done / max(self._all, 1)


def make_source(name: str, text: str | None) -> Source:
    """A source from what a file holds: maybe no text, or text that JSON can spell and UTF-8 cannot hold.

    A byte order mark in front of the text is none of it.
    """
    plain = (text or "").removeprefix("\ufeff")
    good = encodable(plain)
    return Source(encodable(name), good, mended=good != plain)


def encodable(text: str) -> str:
    """The text with lone surrogates, which JSON can spell and UTF-8 cannot hold, replaced by question marks."""
    return text.encode("utf-8", errors="replace").decode("utf-8")
