"""Text of a corpus as a judge can read it: whole characters, and no mark that its own chat format would obey.

Escaped tokens flow in, escaped text and lines flow out; all but `token_lines` can be taken back. Knows no prompt.
"""

import re
from collections.abc import Sequence

from autointerp.format import join_pieces

_NAMES = (
    "s bos eos pad unk mask cls sep think thinking thought tool_call tool_calls tool_response tools image audio video "
    "role start_of_turn end_of_turn start_of_image end_of_image image_soft_token start_of_role end_of_role end_of_text "
    r"end_of_utterance endoftext fim_prefix fim_middle fim_suffix fim_pad file_sep filename reponame repo_name "
    r"gh_stars empty_output issue_\w+ jupyter_\w+ commit_\w+ unused\d+ reserved_\w+ extra_id_\d+ ctrl\d+ seed:\w+ "
    r"longcat_\w+ minimax:\w+"
).replace(" ", "|")
_BRACKETED = (
    r"INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|ARGS|CALL_ID|THINK|IMG|IMG_BREAK|IMG_END"
    r"|AUDIO|BEGIN_AUDIO|PREFIX|MIDDLE|SUFFIX|gMASK|sMASK|sop|eop|MASK|CLS|SEP|PAD|UNK|BOS|EOS|control_\d+"
)
_CHAT_MARK = re.compile(
    rf"<(?:\|[^|<>\s]{{1,60}}\|?>|[^|<>\s]{{1,60}}\|>|｜[^｜<>\s]{{1,60}}｜>|/?(?:{_NAMES})>|</?SYS>>)"
    rf"|\[/?(?:{_BRACKETED})\]|◁/?\w+▷|\]~!?b[\[\]]|\[e~\["
)
"""Marks of turns, thoughts, tools and gaps that some model's tokenizer takes for one token of its own."""
_BROKEN = re.compile(r"\\\\|\\u\{(3C|5B|5D|25C1)\}")


def break_marks(text: str) -> str:
    r"""A text in which the first character of every mark of a chat format is escaped, as `\u{3C}|im_end|>`.

    A server that looks for its marks in what it is given would end the turn there.
    """
    return _CHAT_MARK.sub(lambda match: f"\\u{{{ord(match[0][0]):X}}}{match[0][1:]}", text)


def mend_marks(text: str) -> str:
    """The inverse of `break_marks` for escaped text, in which none of these characters is escaped otherwise."""
    return _BROKEN.sub(lambda match: chr(int(match[1], 16)) if match[1] else match[0], text)


def running_text(tokens: Sequence[str]) -> str:
    """Escaped tokens one after another; bytes that are characters only together are shown as these."""
    return break_marks("".join(joined.text for joined in join_pieces(tokens)))


def token_lines(tokens: Sequence[str]) -> list[str]:
    """Escaped tokens one a line; a character of several tokens is shown whole at the last of them.

    What reads from left to right knows the character there, and not before.
    """
    lines = [""] * len(tokens)
    for text, parts in join_pieces(tokens):
        last = parts[-1][0]
        for number, share in parts:
            lines[number] += share if number != last else ""
        lines[last] += text
    return [break_marks(line) for line in lines]


def cut_characters(before: str, target: str, after: str) -> str:
    r"""Which characters a target cuts, as `\xE6\xB0\x94 is 气`; empty where it cuts none."""
    cut = [
        f"{''.join(share for _, share in parts)} is {text}"
        for text, parts in join_pieces((before, target, after))
        if len({number for number, _ in parts}) > 1 and any(number == 1 for number, _ in parts)
    ]
    return ", ".join(cut)
