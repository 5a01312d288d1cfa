"""A comparison from references to its file: open the runs, refuse what differs, compute, write `compare.json`
and `compare.html`.

References flow in; a `Comparison` and its files flow out. Weights come through a `Loader`, so that nothing here needs
torch.
"""

import errno
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from autointerp.compare.card import Card
from autointerp.compare.collect import Progress, Wish, compare_arms
from autointerp.compare.data import BYS, By, Comparison, Plan
from autointerp.compare.facts import Known, Weights, bare_card, make_card
from autointerp.compare.page.html import render_comparison
from autointerp.compare.planning import plan_arms
from autointerp.compare.runs import OpenArm, find_mismatches, open_arms
from autointerp.config import DictionaryConfig
from autointerp.errors import UsageError
from autointerp.provenance import write_atomically
from autointerp.records import DictionarySpec

PLAN_FILE = "compare-plan.json"


class Loader(NamedTuple):
    """Where weights come from."""

    weights: Callable[[DictionaryConfig, DictionarySpec], Weights | str]
    """Of a harvested dictionary, or why they cannot be loaded."""
    known: Callable[[str, str], Known]
    """Of a dictionary by its path, read where its files name no hook point at the given one."""


def make_comparison(wish: Wish, load: Loader, out: Path | None, progress: Progress) -> Comparison:
    """Compare, and write `compare.json` and `compare.html` into `out` where it is given.

    Raises:
        UsageError: runs that differ in what should be alike, unfinished or unknown ones, or a single arm.
    """
    check_by(wish.by)
    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file; name a folder")
    with open_arms(wish.references, wish.by) as arms:
        mismatches = find_mismatches(arms, wish.by)
        if mismatches and not wish.allow_mismatch:
            raise UsageError(
                f"these runs are not alike but for the {wish.by}: {'; '.join(mismatches)}. Score them alike, "
                f"or say --allow-mismatch, which marks every table"
            )
        cards = _cards(arms, wish.known, load, progress)
        comparison = compare_arms(arms, cards, mismatches, wish, progress)
    if out is not None:
        _write(out / "compare.html", render_comparison(comparison))
        _write(out / "compare.json", comparison.model_dump_json() + "\n")
    return comparison


def _write(path: Path, content: str) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise UsageError(f"cannot write {path} ({error.strerror}); choose another --out") from None


def make_plan(references: Sequence[str], by: By, gap: float, out: Path | None) -> Plan:
    """How many features a comparison takes, from these runs as its pilot; kept as `PLAN_FILE` in `out` where given.

    Raises:
        UsageError: as `make_comparison`, or a gap that is none.
    """
    check_by(by)
    if not 0 < gap < 2:
        raise UsageError(f"--gap {gap:g} is no difference of correlations; .05 is a usual one to look for")
    with open_arms(references, by) as arms:
        plan = plan_arms(arms, by, gap)
    if out is not None:
        _write(out / PLAN_FILE, plan.model_dump_json(indent=1) + "\n")
    return plan


def check_by(by: str) -> None:
    """Refuse what nothing is compared by.

    Raises:
        UsageError: it is none of `BYS`.
    """
    if by not in BYS:
        raise UsageError(f"cannot compare by {by!r}; choose {', '.join(BYS)}")


def _cards(arms: Sequence[OpenArm], known: str | None, load: Loader, progress: Progress) -> list[Card]:
    """One a dictionary, under the key of its first arm."""
    truth = load.known(known, arms[0].spec.hook_point) if known is not None else None
    first = {(arm.run.name, arm.spec.id): arm for arm in reversed(arms)}
    wanted = [arm for arm in arms if first[arm.run.name, arm.spec.id] is arm]
    cards = []
    for n, arm in enumerate(wanted, start=1):
        harvest = arm.harvest()
        if harvest is None:
            cards.append(bare_card(arm.key, len(arm.source.n_active)))
        else:
            weights = load.weights(arm.run.dictionary(arm.spec.id), arm.spec)
            cards.append(make_card(arm.key, harvest, weights, truth))
        progress("cards", n, len(wanted))
    return cards
