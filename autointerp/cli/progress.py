"""What a person, or a log, sees while a run goes on: bars on a terminal, JSON lines elsewhere. On standard error.

Tokenising and harvesting count tokens, so that their pace is tokens a second; other stages count what they do.

A `Listener`'s calls flow in; text flows out.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from autointerp.cli.say import make_console, say, say_json
from autointerp.listener import Listener, Spending

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

SECONDS_BETWEEN_LINES = 2.0
_SLOW = {"run", "harvest", "explain", "score", "report", "doctor", "compare", "selftest", "retry", "batch"}
_stop: Callable[[], None] | None = None
"""Ends the asking of language models gently, while there is any."""


def stop_gently() -> bool:
    """Let what is under way end and start nothing more; whether there was anything to stop, and the first time."""
    global _stop
    stop, _stop = _stop, None
    if stop is None:
        return False
    stop()
    return True


def _stoppable(stop: Callable[[], None] | None) -> None:
    global _stop
    _stop = stop


def say_starting(words: Sequence[str]) -> None:
    """The first words of a command: what it needs takes seconds to load, and silence looks like a hang."""
    command = next((word for word in words if not word.startswith("-")), None)
    if command is None or command not in _SLOW or "--help" in words:
        return
    if sys.stderr.isatty():
        say(f"{command}: loading what it needs …", sys.stderr)
    else:
        _say({"stage": "load", "done": 0, "total": None, "per_second": None, "seconds_left": None})


@contextmanager
def listening_anew(run: Path, *, probe: bool) -> Iterator[Listener]:
    """As `listening`; with `probe` what the run's endpoints do is asked anew."""
    from autointerp import api

    with listening() as listener:
        if probe:
            api.forget_probes(run)
        yield listener


@contextmanager
def listening() -> Iterator[Listener]:
    """A listener that shows progress until the block ends."""
    if not sys.stderr.isatty():
        yield _json_lines()
        return
    with _bars() as bars:
        tasks: dict[str, TaskID] = {}
        cost = ""

        def progress(stage: str, done: int, total: int) -> None:
            nonlocal tasks
            if stage not in tasks:
                for task in [task for task in bars.tasks if task.finished]:
                    bars.remove_task(task.id)
                    tasks = {name: number for name, number in tasks.items() if number != task.id}
                tasks[stage] = bars.add_task(stage, total=total or None)
            said = f"{stage}  {cost}".rstrip()
            bars.update(tasks[stage], completed=done, total=total or None, description=said)

        def spent(spending: Spending) -> None:
            nonlocal cost
            cost = _say_spending(spending)

        def note(text: str) -> None:
            bars.console.print(text, highlight=False, markup=False)

        yield Listener(progress=progress, note=note, spent=spent, stoppable=_stoppable)


def _bars() -> "Progress":
    """Bars that fit 80 columns and are gone when the block ends."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column
    from rich.text import Text

    class Pace(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.0f}/s" if task.speed else "")

    columns = (
        TextColumn("{task.description}", markup=False, table_column=Column(ratio=2, no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=8)),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        Pace(table_column=Column(no_wrap=True)),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
    )
    return Progress(*columns, console=make_console(stderr=True), transient=True, expand=True)


def _json_lines() -> Listener:
    said: dict[str, float] = {}
    began: dict[str, tuple[float, int]] = {}
    cost: dict[str, object] = {}

    def spent(spending: Spending) -> None:
        cost["spent"] = spending._asdict()

    def progress(stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        since, before = began.setdefault(stage, (now, done))
        if stage not in said or (total and done >= total) or now - said[stage] >= SECONDS_BETWEEN_LINES:
            said[stage] = now
            rate = (done - before) / (now - since) if done > before and now > since else None
            left = (total - done) / rate if rate and total else None
            pace = {"per_second": rate and round(rate, 1), "seconds_left": left if left is None else round(left)}
            _say({"stage": stage, "done": done, "total": total or None, **pace, **cost})

    return Listener(progress=progress, note=lambda text: _say({"note": text}), spent=spent, stoppable=_stoppable)


def _say_spending(spending: Spending) -> str:
    """As `12 calls, 34,567 tokens, 0.0123 USD`."""
    dollars = "" if spending.usd is None else f", {spending.usd:.4f} USD"
    return f"{spending.calls:,} calls, {spending.tokens:,} tokens{dollars}"


def _say(value: dict[str, object]) -> None:
    say_json(value, sys.stderr)
