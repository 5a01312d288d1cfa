"""Words on their way to a person or a pipe: what would move a cursor, turn a line around or cannot be encoded is shown
as what it is.

Texts, values and rich tables flow in; lines flow out. Everything that a command prints goes through here, since names,
notes and errors may hold what somebody else wrote.
"""

import json
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO

from autointerp.report.text import one_line, visible

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 100
"""Columns of a table where standard output is no terminal."""


def say(text: object, file: TextIO | None = None) -> None:
    """A line, or several."""
    print("\n".join(map(visible, str(text).split("\n"))), file=file, flush=True)


def say_json(value: object, file: TextIO | None = None) -> None:
    """One line of JSON; characters that would not show are escaped as JSON escapes them."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if not text.isprintable():
        text = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
    print(text, file=file, flush=True)


def say_error(error: BaseException, head: str = "") -> None:
    """Why a command ended, in one line."""
    say(head + one_line(str(error)), sys.stderr)


def make_console(**options: Any) -> "Console":
    """A rich console whose text, but not its colours, is made visible; `WIDTH` wide where it is no terminal."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment
    from rich.text import Text

    class Visible(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str("\n".join(map(visible, text.split("\n"))), **options)

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                if segment.control or segment.text.isprintable():
                    yield segment
                else:
                    yield Segment("\n".join(map(visible, segment.text.split("\n"))), segment.style)

    if "width" not in options and not options.get("stderr") and not sys.stdout.isatty():
        options["width"] = WIDTH
    return Visible(**options)


def open_streams() -> None:
    """Let standard output and error take any text, and be there where the caller closed them."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - until the process ends
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
