"""Which words of an answer are the explanation, and what they come to: a rule, no rule, a refusal, an echo of ours.

An answer without its wrapping flows in; a text, or a finding about one, flows out. Knows no reply and no prompt.
"""

import re

from autointerp.interpret.wrapping import objects

NO_PATTERN = "no clear pattern"
_QUOTED = r"[\"“'‘`][^\"“”'‘’`\n]{1,40}[\"”'’`]"
_LIST = re.compile(rf"{_QUOTED}(?:\s*(?:[,;/&]|\bor\b|\band\b)+\s*(?:(?:or|and)\s+)?{_QUOTED})+")
_NAME = r"(?:(?:final|revised|new|better|best|improved|updated|short|my|the)[ \t]+){0,2}explanation"
_LABEL = re.compile(
    rf"^(?:[^\w\n]*|[^\w\n]*\d{{1,2}}[.)][^\w\n]*){_NAME}(?:[^\w\n]*?[:：][ \t*_]*(?P<same>.*)|(?P<alone>[ \t*_#]*))$",
    re.IGNORECASE | re.MULTILINE,
)
"""The word at the head of a line, with a colon, or as a heading."""
_HEADING = re.compile(r"^\s*(?:#{1,6}\s|\*\*|__)")
_PAIRED = (("“", "”"), ("‘", "’"), ("«", "»"), ("「", "」"))
_SAME = ('"', "`", "'")
MOST_LEFT = 80
"""Characters behind the finding that there is no pattern; a longer text says something else as well."""
_QUALITIES = (
    "single clear obvious consistent discernible apparent specific recognizable recognisable evident coherent common "
    "identifiable particular meaningful simple definite strong real one such general unifying fitting"
).replace(" ", "|")
_PATTERN = rf"(?:(?:{_QUALITIES})[ ,]+(?:or )?)*(?:pattern|rule)s?\b"
_SEEN = "find|see|show|identify|discern|detect|follow|determine|recogni[sz]e|have|fit|exhibit"
_NOTHING = (
    rf"(?:no {_PATTERN}"
    rf"|(?:not|n['’]t|cannot|unable to|failed to|fails to)(?: seem to| be able to)?"
    rf" (?:{_SEEN}) (?:an?|any|one) {_PATTERN})"
)
_SHOWN = "tokens?|windows?|detector|texts?|examples?|data|evidence|levels?|words?|passages?"
_SUBJECT = (
    r"there (?:is|are|was|were|seems? to be|appears? to be)"
    r"|(?:i|we)(?: can| could| do| did)?(?: see| find| found)?"
    rf"|(?:it|(?:the|these|all|its) (?:\w+ ){{0,4}}?(?:{_SHOWN}))[\w ]{{0,30}}?"
)
_FINDS_NOTHING = re.compile(rf"^(?:{_SUBJECT})?\s*{_NOTHING}", re.IGNORECASE)
_EXCEPT = re.compile(
    r"\b(?:but|except|however|although|though|apart|besides|other than|beyond|yet|only|mostly|mainly|unless|while"
    r"|instead|rather)\b",
    re.IGNORECASE,
)
_SORRY = r"(?:(?:i['’]m|i am|we['’]re|we are)(?: very| so| truly| really)? sorry|sorry|(?:my )?apologies)"
_CANNOT = (
    r"(?:i|we)(?: am|['’]m| are|['’]re)? ?(?:can ?not|can['’]?t|could(?: not|n['’]t)|unable to|not able to|will not"
    r"|won['’]t|refuse to|must decline to|decline to|do not|don['’]t)"
)
_ASKED = (
    "help assist comply provide determine answer fulfil fulfill identify give tell say explain describe process access "
    "engage continue respond discuss know have understand see read generate create do"
).replace(" ", "|")
_DECLINES = re.compile(
    rf"^(?:{_SORRY}(?:$|[\s,.!;:—-]+(?:but|that|for|i|we|as|this|there)\b|[.!]$)|i (?:must )?apologi[sz]e\b"
    rf"|as an? (?:ai|assistant|(?:large )?language model)\b|{_CANNOT} (?:\w+ ){{0,2}}?(?:{_ASKED})\b)",
    re.IGNORECASE,
)
_PLACEHOLDER = (
    r"(?:the |your |an? |insert |short |plain |one |two )*(?:rule|explanation|description|answer|text|sentences?)"
)
_ECHO = re.compile(
    r"no line that starts with|answer with the one line|the one line only|earlier answer could not be used"
    r"|write it again|one or two plain sentences|behind [\"“']explanation:|^it had no \b"
    r"|^\W*(?:explanation|none|null|n/?a|tbd|unknown|undefined|\$\w+)\W*$"
    rf"|^[<\[{{(]\W*{_PLACEHOLDER}\b[^<>\[\]{{}}()]*[>\]}})]\W*$",
    re.IGNORECASE,
)
"""Our own words for how to answer and for what was wrong with an answer, and the name of what should stand there."""


def find_explanation(answer: str) -> str | None:
    """The explanation of an answer on one line; empty where it has none, None where objects disagree about it."""
    told = {str(value) for pairs in objects(answer) for key, value in pairs if key.strip().casefold() == "explanation"}
    if len(told) > 1:
        return None
    text = " ".join(told.pop().split()) if told else _labelled(answer)
    repeated = _labelled(text)
    while repeated:
        text, repeated = repeated, _labelled(repeated)
    return tidy(text)


def _labelled(answer: str) -> str:
    """What stands behind the last label that has something behind it, on its line or on the next one with words."""
    for label in reversed(list(_LABEL.finditer(answer))):
        text = label["same"] or ""
        if label["same"] is None and not _HEADING.match(label[0]):
            continue
        if not re.search(r"\w", text):
            text = next((line for line in answer[label.end() :].split("\n") if re.search(r"\w", line)), "")
            text = "" if _LABEL.match(text) else text
        if re.search(r"\w", text):
            return text
    return ""


def tidy(text: str) -> str:
    """A text on one line without what a format left at its ends: quotes around it, emphasis, an object's close."""
    text = " ".join(text.split()).strip("*_ ")
    before = None
    while text != before:
        before = text
        text = _without_leftovers(text).strip("*_ ")
    return text


def _without_leftovers(text: str) -> str:
    for opening, closing in (("{", "}"), ("[", "]")):
        if text.endswith(closing) and text.count(closing) > text.count(opening):
            return text[:-1]
    for mark in _SAME:
        if len(text) > 1 and text[0] == text[-1] == mark and text.count(mark) == 2:
            return text[1:-1]
    for opening, closing in _PAIRED:
        if text.startswith(opening) and text.endswith(closing) and text.count(opening) == text.count(closing) == 1:
            return text[1:-1]
        if text.endswith(closing) and closing != "’" and opening not in text:
            return text[:-1]
        if text.startswith(opening) and closing not in text:
            return text[1:]
    for mark in ('"', "`"):
        if text.count(mark) % 2 and text.endswith(mark):
            return text[:-1]
        if text.count(mark) % 2 and text.startswith(mark):
            return text[1:]
    return text


def listed_tokens(text: str) -> int:
    """How many quoted tokens the longest list of such holds."""
    return max((len(re.findall(_QUOTED, listed)) for listed in _LIST.findall(text)), default=0)


def finds_nothing(text: str) -> bool:
    """Whether a text says that there is no clear pattern and names none."""
    found = _FINDS_NOTHING.match(text)
    return found is not None and len(text) - found.end() <= MOST_LEFT and not _EXCEPT.search(text)


def says_no(text: str) -> bool:
    """Whether a text declines to answer, in words of its own."""
    return bool(_DECLINES.match(text))


def is_echo(text: str) -> bool:
    """Whether a text repeats instructions of ours, or the name of what should stand there."""
    return bool(_ECHO.search(text))
