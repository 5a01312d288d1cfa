"""From open arms to a `Comparison`: which contrasts there are, and everything that stands beside them.

Open arms, cards and the wish flow in, the comparison flows out. Writes nothing.
"""

import shlex
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import NamedTuple

from autointerp.compare.arms import ReadArm, describe_arm, read_arm
from autointerp.compare.bootstrap import ALPHA, N_BESIDE, N_BOOTSTRAP
from autointerp.compare.card import Card
from autointerp.compare.contrast import LEAST_FEATURES, Sides, correct, measure
from autointerp.compare.data import By, Comparison, Contrast, Method
from autointerp.compare.features import entropy_tertiles
from autointerp.compare.hints import LOOKUP, explained_by_lookup, hints_on
from autointerp.compare.pairing import Matcher, differing_pairs
from autointerp.compare.permutation import N_PERMUTATION
from autointerp.compare.runs import OpenArm, contrasted
from autointerp.compare.strata import LEAST_IN_STRATUM, PER_DECADE, common_strata
from autointerp.endpoints import read_answerers, tell_answerers
from autointerp.nearest import COSINE_FLOOR
from autointerp.provenance import package_versions
from autointerp.records import Usage
from autointerp.report.data import CorpusFacts, ProtocolFacts

Progress = Callable[[str, int, int], None]
MOST_L0_RATIO = 1.1
"""From here on a note says that dictionaries differ in L0."""


class Wish(NamedTuple):
    """What was asked for."""

    references: tuple[str, ...]
    by: By
    allow_mismatch: bool
    known: str | None

    @property
    def command(self) -> str:
        """What to type for it."""
        words = ["autointerp", "compare", *self.references]
        words += ["--by", self.by] if self.by != "dictionary" else []
        words += ["--allow-mismatch"] if self.allow_mismatch else []
        words += ["--known", self.known] if self.known else []
        return shlex.join(words)


def compare_arms(
    opened: Sequence[OpenArm], cards: Sequence[Card], mismatches: Sequence[str], wish: Wish, progress: Progress
) -> Comparison:
    """All contrasts between the arms, planned ones first, with the arms' own figures."""
    arms = []
    for n, arm in enumerate(opened, start=1):
        arms.append(read_arm(arm))
        progress("read scores", n, len(opened))
    asked = [arm for arm in arms if arm.open.asked]
    first = opened[0]
    seed = first.run.config.seed
    edges = entropy_tertiles([arm.features for arm in asked])
    matcher = Matcher()
    contrasts = _contrasts(arms, wish.by, matcher, edges, seed, progress)
    joint = common_strata([arm.features.density for arm in asked])
    described = [describe_arm(arm, joint, edges, seed) for arm in arms]
    trained = [
        (a, b) for a, b in combinations(opened, 2) if {a.kind, b.kind} == {"trained"} and wish.by == "dictionary"
    ]
    splittings = [matcher.splitting(a, b) for a, b in trained]
    manifest, plan = first.run.manifest, first.results.plan
    return Comparison(
        created=max((arm.run.manifest.closed or arm.run.manifest.started) for arm in opened)[:10],
        by=wish.by,
        verdict=contrasts[0].verdict,
        mismatches=tuple(mismatches),
        arms=tuple(described),
        contrasts=tuple(contrasts),
        cards=tuple(cards),
        splittings=tuple(splitting for splitting in splittings if splitting is not None),
        entropy_edges=edges,
        corpus=CorpusFacts(
            name=_name(first.run.config.corpus) or "bare records",
            digest=manifest.corpus_digest,
            n_tokens=first.source.n_tokens,
        ),
        protocol=ProtocolFacts(name=plan.label, n_windows=plan.n_windows, description=plan.protocol.description),
        model=_name(first.run.config.model) or "not known",
        seed=seed,
        method=METHOD,
        versions=package_versions(),
        commands=(wish.command,),
        usage=sum((arm.usage for arm in described), Usage()),
    )


METHOD = Method(
    n_bootstrap=N_BOOTSTRAP,
    n_beside=N_BESIDE,
    n_permutation=N_PERMUTATION,
    alpha=ALPHA,
    least_in_stratum=LEAST_IN_STRATUM,
    least_features=LEAST_FEATURES,
    strata_per_decade=PER_DECADE,
    cosine_floor=COSINE_FLOOR,
)


def planned_pairs(arms: Sequence[ReadArm], by: By) -> list[tuple[ReadArm, ReadArm, bool]]:
    """Each two asked arms, in the order given, and then each asked arm beside each control.

    A single asked arm stands beside its controls alone, which are then what is planned. By explainer, judge or
    protocol only arms of one dictionary are held against each other.
    """
    asked = [arm for arm in arms if arm.open.asked]
    others = [arm for arm in arms if not arm.open.asked]
    pairs = [(a, b, True) for a, b in combinations(asked, 2) if contrasted(a.open, b.open, by)]
    return pairs + [(a, b, not pairs) for a in asked for b in others]


def _contrasts(
    arms: Sequence[ReadArm],
    by: By,
    matcher: Matcher,
    edges: tuple[float, float] | None,
    seed: int,
    progress: Progress,
) -> list[Contrast]:
    found = []
    todo = planned_pairs(arms, by)
    for n, (a, b, planned) in enumerate(todo):
        progress("compare", n, len(todo))
        pairs = matcher.pairs(a, b, by)
        contrast = measure(Sides(a.key, b.key, a.features, b.features, by, planned, pairs, edges, seed))
        differing = differing_pairs(a, b, pairs) if planned else ()
        found.append(contrast.model_copy(update={"differing": differing}))
    progress("compare", len(todo), len(todo))
    settled = [*correct([c for c in found if c.planned]), *correct([c for c in found if not c.planned])]
    by_key = {arm.key: arm.open for arm in arms}
    told = [_with_notes(contrast, by_key[contrast.a], by_key[contrast.b]) for contrast in settled]
    if told and told[0].by == "dictionary" and explained_by_lookup(list(by_key.values())):
        told[0] = told[0].model_copy(update={"notes": (*told[0].notes, LOOKUP)})
    return told


def _with_notes(c: Contrast, a: OpenArm, b: OpenArm) -> Contrast:
    """The contrast with what the dictionaries themselves say to it."""
    said = [tuple(tell_answerers(read_answerers(arm.run.folder, arm.run.config))) for arm in (a, b)]
    answerers = [f"In {key}: {line}" for key, lines in zip((c.a, c.b), said, strict=True) for line in lines]
    notes = [*c.notes, *hints_on(c, a, b), *answerers]
    alive = [int((arm.source.n_active > 0).sum()) for arm in (a, b)]
    if c.verdict == "not_separable" and c.n_needed is not None and c.n_needed > min(alive):
        notes.append(
            f"{c.a} has {alive[0]:,} live features and {c.b} {alive[1]:,}: a gap this small cannot be shown with them."
        )
    l0_a, l0_b = a.source.l0, b.source.l0
    if c.planned and c.by == "dictionary" and l0_a and l0_b and max(l0_a / l0_b, l0_b / l0_a) > MOST_L0_RATIO:
        notes.append(
            f"L0 is {l0_a:.1f} in {c.a} and {l0_b:.1f} in {c.b}, and scores move with it: this is about two "
            f"dictionaries, not about two ways to train one."
        )
    return c.model_copy(update={"notes": tuple(notes)})


def _name(path: str) -> str:
    """The last part of a path."""
    return path.rstrip("/").rpartition("/")[2]
