"""Small records written by hand for tests of interpretation."""

from collections.abc import Sequence

from autointerp.records import (
    ActivationRecord,
    Example,
    ExampleSplit,
    FeatureId,
    FeatureRecord,
    FeatureStats,
    Stratum,
    TokenTable,
)


def make_example(
    tokens: Sequence[str], activations: Sequence[float], document: str, stratum: Stratum = "decile"
) -> Example:
    """A window whose level is five times the activation, at most 10."""
    return Example(
        record=ActivationRecord(tokens=tuple(tokens), activations=tuple(activations), document=document, start=0),
        levels=tuple(min(10, round(5 * a)) for a in activations),
        stratum=stratum,
        probability=1.0,
        verified=not any(activations),
    )


def make_record(
    *, explain: Sequence[Example] = (), score: Sequence[Example] = (), index: int = 0, table: TokenTable | None = None
) -> FeatureRecord:
    """A feature's record with these examples."""
    return FeatureRecord(
        feature=FeatureId(dictionary="d", index=index),
        design="simulate-48x16",
        level_rule="decile",
        level_edges=(0.0,) * 9,
        stats=FeatureStats(n_tokens=100, n_active=10, max=2.0, mean_active=1.0, deciles=(1.0,) * 9, histogram=(10,)),
        splits=ExampleSplit(explain=tuple(explain), select=(), calibrate=(), score=tuple(score), seed=0),
        token_table=table,
    )
