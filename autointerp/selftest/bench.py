"""The generator bench: every protocol on planted features of three densities, and what goes wrong without it.

An effort and a seed flow in, a `GeneratorReport` with the acceptance checks flows out. Everything is drawn from seeded
generators, so the same effort and seed give the same figures.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import pi, sqrt

from autointerp.provenance import generator
from autointerp.records import Record
from autointerp.selftest.accuracy import FloorRow, compare_floors
from autointerp.selftest.dictionaries import Gap, equal_quality
from autointerp.selftest.generator import N_FRAGMENTS, Planted, Quality, density_name, plant
from autointerp.selftest.measure import Cell, Draws, draw_scores, measure, population_score, separation
from autointerp.selftest.price import price_of
from autointerp.selftest.samplers import DESIGNS, BenchDesign, BenchProtocol, graded
from autointerp.selftest.stopping import StopRow, compare_stopping
from autointerp.selftest.ties import TieTable, compare_tie_rules

DENSITIES = (1e-2, 1e-3, 1e-4)
HIT_RATES = (1.0, 0.5, 0.2)
GRADED: tuple[BenchProtocol, ...] = ("graded-60", "graded-120")
LEAST_D_PRIME: Mapping[BenchProtocol, float] = {"graded-60": 2.5, "graded-120": 3.5}
NEAR_MISSES: tuple[Quality, ...] = ("broad", "lookup", "narrow", "noisy")
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Effort:
    """How many draws each part takes."""

    graded: int
    """Scores of the graded protocols, and intervals of the longer one: what is held to a bar."""
    other: int
    """Of the other protocols, and of graded where hard windows are diluted."""
    features: int
    """Of each of the two dictionaries of equal quality."""
    ties: int
    floors: int
    stopping: int
    fragments: int = N_FRAGMENTS
    """Of each planted corpus."""


FULL = Effort(graded=2_000, other=1_000, features=120, ties=10, floors=1_000, stopping=1_000)
QUICK = Effort(graded=2_000, other=300, features=24, ties=1, floors=200, stopping=100)
SMOKE = Effort(graded=200, other=60, features=8, ties=1, floors=30, stopping=20, fragments=10_000)
"""A look at every part, too short for the bars."""


class Check(Record):
    """One acceptance number."""

    what: str
    value: float
    low: float | None = None
    high: float | None = None
    ok: bool


class GeneratorReport(Record):
    """All figures of the generator bench; densities are keys such as `1e-3`."""

    protocols: dict[str, dict[str, Cell]]
    hit_rates: dict[str, dict[str, dict[str, dict[str, float]]]]
    """d' of good against each near-miss by protocol, hit rate and density."""
    equal_quality: dict[str, Gap]
    ties: TieTable
    floors: dict[str, dict[str, FloorRow]]
    stopping: dict[str, StopRow]
    """At a density of 1e-3, by explanation."""
    checks: tuple[Check, ...]


def run_generator_bench(effort: Effort, seed: int, progress: Progress) -> GeneratorReport:
    """Every part of the generator bench, in order."""
    planted = {density_name(d): plant(d, generator(seed, "planted", d), effort.fragments) for d in DENSITIES}
    protocols = _measure_all(planted, effort, seed, progress)
    hit_rates = _measure_hit_rates(planted, effort, seed)
    progress("equal dictionaries", 0, 1)
    equal: dict[str, Gap] = {
        str(name): gap for name, gap in equal_quality(DESIGNS, effort.features, seed, effort.fragments).items()
    }
    progress("equal dictionaries", 1, 1)
    ties = compare_tie_rules(DENSITIES, effort.ties, seed)
    floors = {name: compare_floors(p, effort.floors, seed) for name, p in planted.items()}
    progress("stopping", 0, 1)
    stopping = compare_stopping(planted["1e-3"], effort.stopping, seed)
    progress("stopping", 1, 1)
    return GeneratorReport(
        protocols=protocols,
        hit_rates=hit_rates,
        equal_quality=equal,
        ties=ties,
        floors=floors,
        stopping=stopping,
        checks=tuple(acceptance(protocols, equal, ties, stopping)),
    )


def _measure_all(
    planted: Mapping[str, Planted], effort: Effort, seed: int, progress: Progress
) -> dict[str, dict[str, Cell]]:
    population = {name: population_score(p, "good", (seed, "population", name)) for name, p in planted.items()}
    cells: dict[str, dict[str, Cell]] = {}
    for i, (protocol, design) in enumerate(DESIGNS.items()):
        progress("protocols", i, len(DESIGNS))
        price = price_of(design)
        draws = Draws(
            effort.graded if protocol in GRADED else effort.other,
            effort.graded if protocol == "graded-120" else effort.other,
        )
        cells[protocol] = {
            name: measure(design, p, population[name], draws, price, (seed, protocol, name))
            for name, p in planted.items()
        }
    progress("protocols", len(DESIGNS), len(DESIGNS))
    return cells


def _measure_hit_rates(
    planted: Mapping[str, Planted], effort: Effort, seed: int
) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """d' where a hard slot holds a true look-alike only with that chance."""
    found: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for protocol in GRADED:
        found[protocol] = {}
        for rate in HIT_RATES:
            design = replace(DESIGNS[protocol], draw=graded(DESIGNS[protocol].n_windows, rate))
            found[protocol][f"{rate:g}"] = {
                name: _separations(design, p, effort.other, (seed, protocol, name)) for name, p in planted.items()
            }
    return found


def _separations(design: BenchDesign, planted: Planted, n_draws: int, seed: tuple[object, ...]) -> dict[str, float]:
    scores = draw_scores(design, planted, n_draws, seed).scores
    return {q: separation(scores, q) for q in (*NEAR_MISSES, "narrow2")}


def acceptance(
    cells: Mapping[str, Mapping[str, Cell]], equal: Mapping[str, Gap], ties: TieTable, stopping: Mapping[str, StopRow]
) -> list[Check]:
    """The numbers that a protocol fit to be the default must reach on planted features."""
    checks = []
    for protocol in GRADED:
        for density, cell in cells[protocol].items():
            where = f"{protocol}, density {density}"
            least = min(cell.d_prime[q] for q in NEAR_MISSES)
            checks.append(_check(f"{where}: smallest d' against a near-miss", least, low=LEAST_D_PRIME[protocol]))
            null_size = sqrt(2 / pi) / sqrt(cell.n_windows - 1)
            checks.append(_check(f"{where}: mean rho of a random explanation", cell.random_mean, low=-0.03, high=0.03))
            size = cell.random_mean_abs / null_size
            checks.append(_check(f"{where}: its mean |rho| over chance's", size, low=0.85, high=1.15))
            if protocol == "graded-120" and cell.coverage is not None:
                checks.append(_check(f"{where}: coverage of the 95 % interval", cell.coverage, low=0.92, high=0.97))
        checks.append(_check(f"{protocol}: z between equal dictionaries", equal[protocol].z, low=-2.0, high=2.0))
    for rule, row in ties.items():
        off = max(abs(cell.perfect - cell.closed_form) for cell in row.values())
        checks.append(_check(f"{rule}: distance from the closed form", off, high=0.001))
    moved = stopping["mixture"].bias
    checks.append(_check("stopping: what it adds to the mean of a mixture", moved, low=-0.01, high=0.01))
    return checks


def _check(what: str, value: float, low: float | None = None, high: float | None = None) -> Check:
    ok = (low is None or value >= low) and (high is None or value <= high)
    return Check(what=what, value=value, low=low, high=high, ok=ok)


def as_json_object(report: GeneratorReport) -> dict[str, object]:
    """The report as plain values, with the z of each protocol beside its gap."""
    return {
        **report.model_dump(mode="json"),
        "equal_quality_z": {name: gap.z for name, gap in report.equal_quality.items()},
    }
