r"""Bare records as text: tab-separated, or JSON lines; reading is the inverse of writing.

    # feature 12
    # document page-7
    the<TAB>0
     cat<TAB>4.5

Records are separated by one blank line. `# feature N` holds until the next; `# document ID` until the next of either.
Lines may end as DOS ends them and begin with a byte order mark, also where files were put together.
In JSON lines a token is its text (a byte that is no whole UTF-8 as a lone low surrogate, as `surrogateescape` gives
it), or `{"special": NAME}`. Paths flow in and out; nothing here knows a run.
"""

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from autointerp.bare import BareRecord
from autointerp.errors import UsageError
from autointerp.format import SpecialToken, escape_bytes, escape_special, escape_text, format_lines, unescape
from autointerp.settings import encodes

MOST_FEATURES = 2**26
"""A feature's number is below it, since arrays are as long as the highest one; the largest dictionaries have half."""
SMALLEST, LARGEST = 1.401298464324817e-45, 3.4028234663852886e38
"""Of activations that are not 0, either way: those of float32. Sums of squares stay finite, and bins have a width."""
MARK = "\ufeff"
"""A byte order mark; as part of a token it is written `\\u{FEFF}`."""
FEATURE, DOCUMENT = "# feature ", "# document "


def read_bare_records(path: Path) -> list[BareRecord]:
    """The records of a `.jsonl` file, or of a tab-separated one under any other name.

    Raises:
        UsageError: the file cannot be read or a line cannot be understood; the text names the line.
    """
    try:
        text = path.read_text(encoding="utf-8").removeprefix(MARK).replace(f"\n{MARK}", "\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise UsageError(f"cannot read the records {path}: {error.strerror}") from None
    records = parse_json_lines(text, str(path)) if path.suffix == ".jsonl" else list(_read_tsv(text, str(path)))
    if not records:
        raise UsageError(f"{path} holds no record")
    return records


def write_tsv(records: Iterable[BareRecord]) -> str:
    """Tab-separated text of records; each names its feature and, where it has one, its document."""
    blocks = []
    for record in records:
        head = [f"{FEATURE}{record.feature}"]
        if record.document is not None:
            head.append(DOCUMENT + escape_text(record.document))
        values = [_number(value) for value in record.activations]
        blocks.append("\n".join([*head, format_lines(record.tokens, values)]))
    return "\n\n".join(blocks) + "\n"


def write_json_lines(records: Iterable[BareRecord]) -> str:
    """JSON lines of records."""
    return "".join(json.dumps(_as_json(record)) + "\n" for record in records)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def _as_json(record: BareRecord) -> dict[str, object]:
    tokens: list[object] = []
    for token in record.tokens:
        plain = unescape(token)
        if isinstance(plain, SpecialToken):
            tokens.append({"special": plain.name})
        else:
            tokens.append(plain.decode("utf-8", errors="surrogateescape"))
    values: dict[str, object] = {"feature": record.feature, "tokens": tokens, "activations": list(record.activations)}
    return values if record.document is None else {**values, "document": record.document}


def _escaped(token: object, where: str) -> str:
    if isinstance(token, dict) and isinstance(token.get("special"), str) and len(token) == 1:
        return escape_special(SpecialToken(token["special"]))
    if not isinstance(token, str):
        raise UsageError(f'{where}: a token is a text or {{"special": NAME}}, not {_short(token)}')
    try:
        return escape_bytes(token.encode("utf-8", errors="surrogateescape"))
    except UnicodeEncodeError:
        return escape_bytes(token.encode("utf-8", errors="surrogatepass"))


def _canonical(token: str) -> str:
    """The one spelling of an escaped token."""
    plain = unescape(token)
    return escape_special(plain) if isinstance(plain, SpecialToken) else escape_bytes(plain)


def parse_json_lines(text: str, path: str) -> list[BareRecord]:
    """The inverse of `write_json_lines`; `path` is named in errors."""
    return list(_read_json_lines(text, path))


def _read_json_lines(text: str, path: str) -> Iterator[BareRecord]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UsageError(f"{where} is not JSON: {error}") from None
        except ValueError:
            most = sys.get_int_max_str_digits()
            raise UsageError(f"{where} holds a whole number of more than {most:,} digits") from None
        except RecursionError:
            raise UsageError(f"{where} is nested too deeply to be a record") from None
        if not isinstance(row, dict) or not {"tokens", "activations"} <= set(row):
            raise UsageError(f'{where} lacks "tokens" or "activations"; a record is an object with both')
        yield _from_values(row, where)


def as_bare(record: BareRecord | Mapping[str, Any]) -> BareRecord:
    """A record as it is, or from plain values."""
    if isinstance(record, BareRecord):
        return _record(record.feature, record.tokens, record.activations, record.document, "a record")
    return _from_values(record, "a record")


def _from_values(row: Mapping[str, Any], where: str) -> BareRecord:
    """A record from plain values: `tokens`, `activations`, and optionally `feature` and `document`.

    Raises:
        UsageError: tokens and activations that do not go together, or a value that is no finite number.
    """
    tokens, activations = row.get("tokens"), row.get("activations")
    if not isinstance(tokens, list | tuple) or not isinstance(activations, list | tuple) or not tokens:
        raise UsageError(f"{where}: tokens and activations are lists with at least one entry")
    feature, document = row.get("feature", 0), row.get("document")
    if not isinstance(feature, int) or isinstance(feature, bool) or feature < 0:
        raise UsageError(f"{where}: feature is a whole number from 0 on, not {_short(feature)}")
    return _record(
        feature,
        [_escaped(token, where) for token in tokens],
        [_finite(value, where) for value in activations],
        None if document is None else str(document),
        where,
    )


def _record(
    feature: int, tokens: Sequence[str], values: Sequence[float], document: str | None, where: str
) -> BareRecord:
    if len(tokens) != len(values):
        raise UsageError(f"{where}: {len(tokens)} tokens but {len(values)} activations")
    if feature >= MOST_FEATURES:
        raise UsageError(f"{where}: feature {_short(feature)} is too high; numbers go up to {MOST_FEATURES - 1:,}")
    if document is not None and not encodes(document):
        raise UsageError(f"{where}: the document {_short(document)} holds half of a character, which no text can hold")
    return BareRecord(feature=feature, tokens=tuple(tokens), activations=tuple(values), document=document)


def _finite(value: object, where: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or isinstance(value, bool):
        raise UsageError(f"{where}: {_short(value)} is no activation; it must be a finite number")
    if number and not SMALLEST <= abs(number) <= LARGEST:
        what = "large for an activation" if abs(number) > LARGEST else "small for an activation, so write 0"
        raise UsageError(f"{where}: {_short(value)} is too {what}; float32 has no such number")
    return number


def _short(value: object) -> str:
    """A value as it is quoted in an error; its first characters where it has many."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of more digits than Python writes
        return f"a {type(value).__name__} too long to be shown"
    return text if len(text) <= 60 else f"{text[:50]}…"


def _read_tsv(text: str, path: str) -> Iterator[BareRecord]:
    feature, document = 0, None
    tokens: list[str] = []
    values: list[float] = []
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        where = f"{path} line {number}"
        token, tab, value = line.rpartition("\t")
        if tab:
            try:
                tokens.append(_canonical(token))
            except UsageError as error:
                raise UsageError(f"{where}: {error}") from None
            values.append(_finite(value, where))
            continue
        if tokens:
            if line.strip():
                raise UsageError(f"{where} has no tab; a record's lines are TOKEN<TAB>ACTIVATION, a blank line ends it")
            yield _record(feature, tokens, values, document, where)
            tokens, values = [], []
        if line.startswith(FEATURE):
            feature, document = _feature_number(line.removeprefix(FEATURE), where), None
        elif line.startswith(DOCUMENT):
            document = _document_name(line.removeprefix(DOCUMENT), where)
        elif line.strip():
            raise UsageError(f"{where} is neither TOKEN<TAB>ACTIVATION nor `# feature N` nor `# document ID`")


def _feature_number(text: str, where: str) -> int:
    if not text.strip().isdecimal() or len(text.strip()) > 100:
        raise UsageError(f"{where}: `# feature` wants a whole number, not {_short(text.strip())}")
    return int(text)


def _document_name(text: str, where: str) -> str:
    try:
        plain = unescape(text)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    return plain.name if isinstance(plain, SpecialToken) else plain.decode("utf-8", errors="surrogatepass")
