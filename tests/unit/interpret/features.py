"""Small feature records for tests of explainers and simulators."""

from collections.abc import Sequence

from autointerp.records import (
    ActivationRecord,
    Example,
    ExampleSplit,
    Explanation,
    FeatureFacts,
    FeatureId,
    FeatureRecord,
    FeatureStats,
)

FEATURE = FeatureId(dictionary="d", index=7)


def example(tokens: Sequence[str], levels: Sequence[int], document: str = "doc", target: int | None = None) -> Example:
    """A window whose activations are its levels."""
    activations = tuple(float(level) for level in levels)
    record = ActivationRecord(tokens=tuple(tokens), activations=activations, document=document, start=0)
    return Example(record=record, levels=tuple(levels), stratum="top", probability=1.0, verified=False, target=target)


def feature_record(
    explain: Sequence[Example],
    score: Sequence[Example] = (),
    facts: FeatureFacts | None = None,
    select: Sequence[Example] = (),
) -> FeatureRecord:
    """A feature with these examples and no others."""
    stats = FeatureStats(n_tokens=1000, n_active=10, max=10.0, mean_active=5.0, deciles=(), histogram=())
    return FeatureRecord(
        feature=FEATURE,
        design="test",
        level_rule="decile",
        level_edges=tuple(float(i) for i in range(1, 10)),
        facts=facts or FeatureFacts(),
        stats=stats,
        splits=ExampleSplit(explain=tuple(explain), select=tuple(select), calibrate=(), score=tuple(score), seed=0),
    )


def three_tokens() -> FeatureRecord:
    """A feature with one window of three hostile tokens, one of them with a tab and one with a dollar sign."""
    return feature_record([example([" a\\tb", "$x", "\\n"], [0, 9, 3])])


def explained(text: str) -> Explanation:
    """An explanation of the test feature."""
    return Explanation(feature=FEATURE, text=text, author="human", method="human", examples_digest="none")
