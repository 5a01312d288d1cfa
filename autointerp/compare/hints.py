"""What a contrast cannot show by how its features were drawn or explained, and what would show it.

A settled contrast and its arms flow in, sentences flow out. Changes no figure.
"""

from collections.abc import Iterator

from autointerp.compare.data import Contrast
from autointerp.compare.runs import OpenArm

LOOKUP = (
    "Explanations here are token lists by look-up, which cannot show more of a feature than on which tokens it fires; "
    "what dictionaries know beyond that is seen only with a language model (--llm)."
)
_TERTILES = ("low entropy", "middle entropy", "high entropy")


def hints_on(c: Contrast, a: OpenArm, b: OpenArm) -> Iterator[str]:
    """Sentences for one contrast."""
    p = c.pairing
    if p is not None and p.kind == "matched" and p.difference.undefined == "too_few_pairs" and p.n_matched_a:
        yield (
            f"Only {p.difference.n_a:,} of the {p.n_matched_a:,} features of {c.a} with a partner in {c.b} are scored "
            f"on both sides: --features matched:{min(200, p.n_matched_a)}, in one run with both, draws pairs."
        )
    gaps = [c.groups[name].value for name in _TERTILES if name in c.groups]
    parts = [gap for gap in gaps if gap is not None]
    if len(parts) == len(_TERTILES) and c.difference is not None and not min(parts) <= c.difference <= max(parts):
        yield (
            f"The difference is outside what it is in any third by token entropy: {c.a} and {c.b} differ in how many "
            "features of each kind they have, which moves a mean by itself (Simpson's paradox)."
        )


def explained_by_lookup(arms: list[OpenArm]) -> bool:
    """Whether no arm was explained by a language model."""
    return all(arm.results.explainer_key.startswith("lookup") for arm in arms)
