"""What a person, or a log, sees while a run goes on: bars on a terminal, JSON lines elsewhere. On standard error.

A `Listener`'s calls flow in; text flows out.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from autointerp.aio import Listener

SECONDS_BETWEEN_LINES = 2.0


@contextmanager
def listening() -> Iterator[Listener]:
    """A listener that shows progress until the block ends."""
    if not sys.stderr.isatty():
        yield _json_lines()
        return
    from rich.console import Console
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

    class RateColumn(ProgressColumn):
        """Done a second: tokens while harvesting, features after."""

        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.0f}/s" if task.speed else "")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        RateColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def progress(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total or None)
            bars.update(tasks[stage], completed=done, total=total or None)

        yield Listener(progress=progress, note=lambda text: bars.console.print(text, highlight=False, markup=False))


def _json_lines() -> Listener:
    said: dict[str, float] = {}
    began: dict[str, tuple[float, int]] = {}

    def progress(stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        since, before = began.setdefault(stage, (now, done))
        rate = (done - before) / (now - since) if now > since else 0.0
        if stage not in said or (total and done >= total) or now - said[stage] >= SECONDS_BETWEEN_LINES:
            said[stage] = now
            left = {"per_s": round(rate, 1), "left_s": round((total - done) / rate)} if rate and total else {}
            _say({"stage": stage, "done": done, "total": total or None, **left})

    return Listener(progress=progress, note=lambda text: _say({"note": text}))


def _say(value: dict[str, object]) -> None:
    print(json.dumps(value, ensure_ascii=False), file=sys.stderr, flush=True)
