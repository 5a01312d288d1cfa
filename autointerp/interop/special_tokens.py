"""Special tokens of bare records: left out as a harvest leaves them out, or pointed at where they are plain text.

Records flow in; records of text alone, and notes in sentences, flow out.
"""

import json
import re
from collections.abc import Sequence

from autointerp.bare import BareRecord
from autointerp.format import SpecialToken, escape_special

SPECIAL = "\\s{"
"""How the escaped text of a special token begins; no other token's does."""
_MARKS = re.compile(
    r"\s*(<\|?(bos|eos|pad|s|/s|sos|cls|sep|begin_?of_?text|end_?of_?text|endoftext|startoftext|im_start|im_end"
    r"|begin_?of_?sentence|end_?of_?sentence|start_?of_?turn|end_?of_?turn|padding)\|?>|\[(BOS|EOS|PAD|CLS|SEP)\])\s*",
    re.IGNORECASE,
)
"""How models write the marks that begin, end and fill their texts."""


def leave_out_special(records: Sequence[BareRecord]) -> tuple[list[BareRecord], tuple[str, ...]]:
    """The records without their declared special tokens, and notes on those and on plain text that looks like some.

    A mark such as BOS is no text: nobody can tell its activation from a text, and it is often the largest of all. What
    is written as plain text stays, since it may be meant so.
    """
    kept: list[BareRecord] = []
    left: list[tuple[str, float]] = []
    for record in records:
        pairs = list(zip(record.tokens, record.activations, strict=True))
        text = [pair for pair in pairs if not pair[0].startswith(SPECIAL)]
        if len(text) < len(pairs):
            left += [pair for pair in pairs if pair[0].startswith(SPECIAL)]
            tokens, values = zip(*text, strict=True) if text else ((), ())
            record = record.model_copy(update={"tokens": tokens, "activations": values})
        if record.tokens:
            kept.append(record)
    return kept, (*_note_left(left), *_note_plain(kept))


def _note_left(left: Sequence[tuple[str, float]]) -> tuple[str, ...]:
    if not left:
        return ()
    names = ", ".join(sorted({name for name, _ in left})[:5])
    return (
        f"{len(left):,} special tokens ({names}) are left out of the records, as a harvest leaves them out; their "
        f"largest activation was {max(value for _, value in left):g}",
    )


def _note_plain(records: Sequence[BareRecord]) -> tuple[str, ...]:
    found = [
        (record.tokens[place], record.activations[place])
        for record in records
        for place in {0, len(record.tokens) - 1}
        if _MARKS.fullmatch(record.tokens[place])
    ]
    if not found:
        return ()
    name = found[0][0].strip()
    return (
        f"{len(found):,} records begin or end with a mark such as {name!r} as plain text, with activations up to "
        f"{max(value for _, value in found):g}, which counts as text here; if it is a special token, write it as "
        f'{{"special": {json.dumps(name)}}} in JSON or {escape_special(SpecialToken(name))} in a table, and it is left '
        "out",
    )
