"""The unit every corpus reader yields: one named piece of text.

In: nothing. Out: `Source`. Knows nothing of files, tokens or models.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """One named text of a corpus."""

    id: str
    """Name, unique within its corpus; parts of the corpus are chosen by its hash, so it never changes."""
    text: str
    """The whole text; it always encodes as UTF-8."""
