r"""Token escaping, activation levels, and tab-separated records, each with its inverse.

Bytes, names and raw activations flow in; one-line texts and integers 0..10 flow out, and back. Knows no feature.

An escaped token is text without control or format characters: `\\` backslash, `\t`, `\n`, `\r`, `\u{HEX}` any other
control, format, surrogate or line-separating character, `\xHH` a byte that is no whole UTF-8, `\s{NAME}` a special
token.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from autointerp.errors import UsageError

MAX_LEVEL = 10
MIN_DISTINCT_FOR_DECILES = 10
_NAMED = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_UNNAMED = {escaped[1]: plain for plain, escaped in _NAMED.items()}
_HIDDEN_CATEGORIES = ("Cc", "Cf", "Cs", "Zl", "Zp")
_CHARACTER = r"[\\tnr]|u\{[0-9A-Fa-f]{1,6}\}"
_ESCAPE = re.compile(rf"\\(?:({_CHARACTER})|x([0-9A-Fa-f]{{2}})|s\{{((?:[^}}\\]|\\(?:{_CHARACTER}))*)\}})?")
_WHOLE_SPECIAL = re.compile(rf"\\s\{{((?:[^}}\\]|\\(?:{_CHARACTER}))*)\}}")


class SpecialToken(NamedTuple):
    """A token that stands for no text, such as a beginning-of-sequence mark."""

    name: str


def escape_bytes(piece: bytes) -> str:
    """One line of readable text for any byte string; `unescape` gives the bytes back."""
    text = piece.decode("utf-8", errors="surrogateescape")
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(f"\\x{ord(c) - 0xDC00:02X}" if "\udc80" <= c <= "\udcff" else _escape_character(c) for c in text)


def escape_text(text: str) -> str:
    """As `escape_bytes` for a string; a lone surrogate becomes `\\u{…}`."""
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(_escape_character(c) for c in text)


def escape_special(token: SpecialToken) -> str:
    """The escaped form of a special token."""
    name = "".join("\\u{7D}" if c == "}" else _escape_character(c) for c in token.name)
    return f"\\s{{{name}}}"


def _escape_character(c: str) -> str:
    if c in _NAMED:
        return _NAMED[c]
    if unicodedata.category(c) in _HIDDEN_CATEGORIES:
        return f"\\u{{{ord(c):X}}}"
    return c


def unescape(escaped: str) -> bytes | SpecialToken:
    """The inverse of the three `escape_` functions; a lone surrogate comes back in its three-byte form.

    Raises:
        UsageError: a backslash that starts no escape, or a special token inside other text.
    """
    whole = _WHOLE_SPECIAL.fullmatch(escaped)
    if whole:
        return SpecialToken(_join(whole.group(1)).decode("utf-8", errors="surrogatepass"))
    return _join(escaped)


def plain_text(tokens: Sequence[str]) -> str:
    """The text that escaped tokens spell: of a window's, what stood in the document; special tokens by their names.

    Bytes that are no UTF-8, as at a cut inside a character, become replacement characters.
    """
    pieces = [unescape(token) for token in tokens]
    joined = b"".join(p.name.encode("utf-8", errors="replace") if isinstance(p, SpecialToken) else p for p in pieces)
    return joined.decode("utf-8", errors="replace")


def _join(escaped: str) -> bytes:
    pieces: list[bytes] = []
    end = 0
    for match in _ESCAPE.finditer(escaped):
        pieces.append(escaped[end : match.start()].encode("utf-8", errors="surrogatepass"))
        character, byte, special = match.groups()
        if byte is not None:
            pieces.append(bytes([int(byte, 16)]))
        elif character is None or special is not None:
            raise UsageError(f"{escaped!r} has a backslash that starts no escape; write a plain backslash as \\\\")
        elif len(character) == 1:
            pieces.append(_UNNAMED[character].encode())
        else:
            code = int(character[2:-1], 16)
            if code > 0x10FFFF:
                raise UsageError(f"{escaped!r} names the character {code:X}, which Unicode does not have")
            pieces.append(chr(code).encode("utf-8", errors="surrogatepass"))
        end = match.end()
    pieces.append(escaped[end:].encode("utf-8", errors="surrogatepass"))
    return b"".join(pieces)


class Joined(NamedTuple):
    """A stretch of escaped text and what it was made of."""

    text: str
    parts: tuple[tuple[int, str], ...]
    """(number of the piece, its share of the text); several where only together they are a character."""


def join_pieces(pieces: Sequence[str]) -> list[Joined]:
    """Escaped texts as if they had been escaped as one: bytes that are a whole character together become that."""
    found: list[Joined] = []
    run: list[tuple[int, str]] = []
    for number, piece in enumerate(pieces):
        end = 0
        for match in _ESCAPE.finditer(piece) if "\\x" in piece else ():
            if match[2] is None:
                continue
            if match.start() > end:
                found += [
                    *_characters(run),
                    Joined(piece[end : match.start()], ((number, piece[end : match.start()]),)),
                ]
                run.clear()
            run.append((number, match[0]))
            end = match.end()
        if end < len(piece):
            found += [*_characters(run), Joined(piece[end:], ((number, piece[end:]),))]
            run.clear()
    return found + _characters(run)


def _characters(run: Sequence[tuple[int, str]]) -> list[Joined]:
    """Escaped bytes that stand one after another, as characters where they are whole."""
    text = bytes(int(escaped[2:], 16) for _, escaped in run).decode("utf-8", errors="surrogateescape")
    found: list[Joined] = []
    start = 0
    for c in text:
        end = start + (1 if "\udc80" <= c <= "\udcff" else len(c.encode()))
        found.append(Joined(run[start][1] if end == start + 1 else _escape_character(c), tuple(run[start:end])))
        start = end
    return found


def level_edges(distinct: Float[np.ndarray, " n"], counts: Int[np.ndarray, " n"]) -> Float[np.ndarray, "9"]:
    """Nine edges such that a value's level is 1 + the number of edges strictly below it.

    `distinct` are a feature's non-zero activations over the whole harvest, ascending, with their counts. From ten
    distinct values on the edges are the inner deciles (linear interpolation); below, the edges that give a value of
    mid-rank r among n the level ceil(10 (r - 1/2) / n).
    """
    if len(distinct) >= MIN_DISTINCT_FOR_DECILES:
        return weighted_quantiles(distinct, counts, np.arange(1, MAX_LEVEL) / MAX_LEVEL)
    return np.asarray(rank_edges(np.zeros(len(distinct), np.int64), distinct, counts, 1)[0])


def rank_edges(
    feature: Int[np.ndarray, " n"], distinct: Float[np.ndarray, " n"], counts: Int[np.ndarray, " n"], n_feature: int
) -> Float[np.ndarray, "n_feature 9"]:
    """`level_edges` by mid-rank of many features at once, their distinct values by feature and ascending in each."""
    total = np.bincount(feature, weights=counts, minlength=n_feature)
    before = np.cumsum(total) - total
    mid_rank = np.cumsum(counts) - before[feature] - (counts - 1) / 2
    levels = np.ceil(MAX_LEVEL * (mid_rank - 0.5) / total[feature] - 1e-9).astype(int).clip(1, MAX_LEVEL)
    highest = np.zeros((n_feature, MAX_LEVEL + 1))
    level_of = np.zeros((n_feature, MAX_LEVEL + 1), np.int64)
    highest[feature, levels] = distinct  # of several values of a level the last stays
    level_of[feature, levels] = levels
    below = np.maximum.accumulate(level_of, axis=1)  # level 0 has no value, and an edge without one below it is 0
    return np.take_along_axis(highest, below, axis=1)[:, 1:MAX_LEVEL]


def weighted_quantiles(
    distinct: Float[np.ndarray, " n"], counts: Int[np.ndarray, " n"], q: Float[np.ndarray, " q"]
) -> Float[np.ndarray, " q"]:
    """What `numpy.quantile` gives on `np.repeat(distinct, counts)`, without repeating."""
    ends = np.cumsum(counts)
    position = q * (ends[-1] - 1)
    low = np.floor(position)
    left = distinct[np.searchsorted(ends, low, side="right")]
    right = distinct[np.searchsorted(ends, np.minimum(low + 1, ends[-1] - 1), side="right")]
    share, step = position - low, right - left
    return np.asarray(np.where(share < 0.5, left + step * share, right - step * (1 - share)))


def to_levels(activations: Float[np.ndarray, "*shape"], edges: Float[np.ndarray, "9"]) -> Int[np.ndarray, "*shape"]:
    """Levels 0..10: 0 for zero or below, else 1 + the number of edges strictly below the activation."""
    levels = 1 + np.searchsorted(edges, activations, side="left")
    return np.where(activations > 0, levels, 0)


def to_levels_by_max(
    activations: Float[np.ndarray, "*shape"], maximum: float, rounding: str
) -> Int[np.ndarray, "*shape"]:
    """The published presets' levels: `floor` or `ceil` of 10 a / max, clipped to 0..10."""
    if maximum <= 0:
        return np.zeros(activations.shape, dtype=int)
    scaled = MAX_LEVEL * np.maximum(activations, 0) / maximum
    rounded = np.floor(scaled) if rounding == "floor" else np.ceil(scaled)
    return np.asarray(rounded.clip(0, MAX_LEVEL).astype(int))


def format_lines(tokens: Sequence[str], values: Sequence[object]) -> str:
    """One `token<TAB>value` line per token; tokens are escaped already."""
    return "\n".join(f"{token}\t{value}" for token, value in zip(tokens, values, strict=True))


def parse_lines(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The inverse of `format_lines`: escaped tokens and the values as text.

    Raises:
        UsageError: a line without a tab.
    """
    tokens: list[str] = []
    values: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        token, tab, value = line.rpartition("\t")
        if not tab:
            raise UsageError(f"line {number} has no tab between a token and its value")
        tokens.append(token)
        values.append(value)
    return tuple(tokens), tuple(values)


def levels_schema(n: int) -> dict[str, object]:
    """A JSON schema for one level 0..10 under each of the keys 1..n."""
    names = [str(i) for i in range(1, n + 1)]
    level = {"type": "integer", "enum": list(range(MAX_LEVEL + 1))}
    return {
        "type": "object",
        "properties": dict.fromkeys(names, level),
        "required": names,
        "additionalProperties": False,
    }
