"""What a person, or a log, sees while a run goes on: bars on a terminal, JSON lines elsewhere. On standard error.

Tokenising and harvesting count tokens, so that their pace is tokens a second; other stages count what they do.

A `Listener`'s calls flow in; text flows out.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from autointerp.cli.say import make_console, say_json
from autointerp.listener import Listener, Spending

SECONDS_BETWEEN_LINES = 2.0
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


@contextmanager
def listening() -> Iterator[Listener]:
    """A listener that shows progress until the block ends."""
    if not sys.stderr.isatty():
        yield _json_lines()
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Pace(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.0f}/s" if task.speed else "")

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Pace(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=make_console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}
        cost = ""

        def progress(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total or None)
            bars.update(tasks[stage], completed=done, total=total or None, description=f"{stage}  {cost}".rstrip())

        def spent(spending: Spending) -> None:
            nonlocal cost
            cost = _say_spending(spending)

        def note(text: str) -> None:
            bars.console.print(text, highlight=False, markup=False)

        yield Listener(progress=progress, note=note, spent=spent, stoppable=_stoppable)


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
