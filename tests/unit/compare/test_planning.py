"""Plans: what a pilot's features and bill say of the full size."""

from types import SimpleNamespace

import pytest

from autointerp.compare import planning
from autointerp.compare.planning import plan_arms
from autointerp.records import Usage
from tests.unit.compare.test_contrast import make_features


def arm(key: str, n: int, mean: float, seed: int, llm: str | None, calls: int) -> SimpleNamespace:
    """As much of a read arm as a plan looks at: n counted of n + 10 asked, and a bill."""
    spent = Usage(calls=calls, input_tokens=1_000_000 * calls, output_tokens=0)
    store = SimpleNamespace(usage=lambda *_: spent)
    config = SimpleNamespace(llm=llm, base_url=None, prices=None)
    run = SimpleNamespace(config=config, manifest=SimpleNamespace(seconds=None))
    results = SimpleNamespace(store=store, dictionary=key, design="", key=None, steps=(), refine_step="")
    source = SimpleNamespace(n_active=make_features(n, mean, seed).density)
    spec = SimpleNamespace(weights_digest=key)
    opened = SimpleNamespace(key=key, run=run, results=results, source=source, spec=spec, asked=True)
    features = make_features(n, mean, seed)
    denominators = SimpleNamespace(asked=n + 10, counted=n)
    return SimpleNamespace(key=key, open=opened, features=features, denominators=denominators)


@pytest.fixture
def pilot(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> list[SimpleNamespace]:
    llm, calls = request.param
    arms = [arm(key, 90, 0.5, seed, llm, calls) for seed, key in enumerate(("a", "b", "c"))]
    monkeypatch.setattr(planning, "read_arm", lambda opened: next(a for a in arms if a.open is opened))
    monkeypatch.setattr(planning, "_seconds", lambda *_: None)
    return arms


@pytest.mark.parametrize("pilot", [("gpt-4o-mini", 2)], indirect=True)
def test_a_plan_pays_for_every_arm_and_corrects_for_every_contrast(pilot: list[SimpleNamespace]) -> None:
    """Three arms, three contrasts at .05 / 3; features asked for are more than those that count; the bill grows."""
    plan = plan_arms([a.open for a in pilot], "dictionary", 0.05)
    assert [(c.a, c.b) for c in plan.contrasts] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert plan.alpha == pytest.approx(0.05 / 3)
    most = max(c.n_needed or 0 for c in plan.contrasts)
    assert 200 < most < 800
    assert plan.n_features is not None
    assert plan.n_features == pytest.approx(most * 100 / 90, abs=1)
    assert plan.cost.calls == pytest.approx(3 * 2 * plan.n_features / 100, abs=3)
    assert plan.dollars == pytest.approx(plan.cost.input_tokens / 1e6 * 0.15, rel=0.01)


@pytest.mark.parametrize(("pilot", "dollars"), [((None, 0), 0.0), (("unheard-of", 2), None)], indirect=["pilot"])
def test_a_price_is_nothing_or_not_known_but_never_guessed(pilot: list[SimpleNamespace], dollars: float | None) -> None:
    """Look-up costs nothing; a model without a price has none."""
    assert plan_arms([a.open for a in pilot], "dictionary", 0.05).dollars == dollars
