"""`autointerp compare` from the command line: verdicts, refusals, what is compared by, plans, and a configuration."""

import json
import shutil
import sys
from pathlib import Path

import pytest

import autointerp
from autointerp.compare.data import Comparison
from tests.flows.conftest import Call, Finished
from tests.small_run import WORDS, SmallRun

PROMISED = {"a", "b", "by", "verdict", "sentence", "difference", "low", "high", "p", "n_a", "n_b", "n_needed"}


def copy_of(finished: Finished, folder: Path) -> Path:
    shutil.copytree(finished.path, folder)
    return folder


def read(folder: Path) -> Comparison:
    return Comparison.model_validate_json((folder / "compare.json").read_text(encoding="utf-8"))


def test_a_finished_run_is_compared_and_the_file_says_all_of_it(finished: Finished, call: Call, tmp_path: Path) -> None:
    """The promised keys, every feature accounted for, and the same bytes from the same run."""
    ended = call("compare", finished.path, "--out", tmp_path / "one", "--json")
    assert ended.code == 0
    said = ended.json
    assert {"verdict", "contrasts", "cards"} <= set(said)
    assert isinstance(said["contrasts"], list)
    assert set(said["contrasts"][0]) >= PROMISED
    comparison = read(tmp_path / "one")
    assert comparison.verdict == said["verdict"] == comparison.contrasts[0].verdict
    assert comparison.contrasts[0].sentence in ended.out
    assert comparison.contrasts[0].b in (tmp_path / "one" / "compare.html").read_text(encoding="utf-8")
    assert [arm.key for arm in comparison.arms] == ["planted", "topk"]
    summary = json.loads((finished.path / "summary.json").read_text(encoding="utf-8"))["dictionaries"]
    for arm in comparison.arms:
        assert arm.uniform.value == pytest.approx(summary[arm.key]["spearman"]["counted_mean"], abs=1e-6)
        assert arm.uniform.n == summary[arm.key]["spearman"]["n"] == arm.denominators.counted == len(arm.points.index)
        assert arm.denominators.skipped == summary[arm.key]["skipped"]
        assert arm.controls["lookup"].value == pytest.approx(summary[arm.key]["lookup"]["counted_mean"], abs=1e-6)
    assert "blocks.0" in (comparison.contrasts[0].no_pairing or "")
    call("compare", finished.path, "--out", tmp_path / "two")
    for name in ("compare.json", "compare.html"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_cards_say_what_the_harvest_and_the_weights_say(finished: Finished, small: SmallRun) -> None:
    """Against the harvest's own metrics; a dictionary that is given as known is found again in itself."""
    known, cards = str(small.planted), {}
    for card in autointerp.compare_runs([finished.path], known=known).cards:
        cards[card.arm] = card
    planted, topk = cards["planted"], cards["topk"]
    assert planted.recovery is not None
    assert planted.recovery.mean_max_cosine == pytest.approx(1, abs=1e-3)
    assert topk.recovery is not None
    assert topk.recovery.mean_max_cosine < 0.6
    assert topk.activity is not None
    assert topk.activity.l0 <= 4
    assert sum(topk.activity.log_density_counts) == topk.activity.n_alive
    assert topk.encoder is not None
    assert topk.encoder.mean == pytest.approx(1, abs=1e-3)
    assert topk.rare is not None
    assert topk.rare.others_cosine is not None
    assert planted.loss_recovered is not None


def test_a_card_without_weights_says_why(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a made-up figure, or a crash, where weights moved away or torch is not installed."""
    moved = copy_of(finished, tmp_path / "moved")
    text = (moved / "config.toml").read_text(encoding="utf-8")
    (moved / "config.toml").write_text(text.replace("/planted", "/gone"), encoding="utf-8")
    rare = autointerp.compare_runs([moved]).cards[0].rare
    assert rare is not None
    assert rare.encoder_cosine is None
    assert "cannot be loaded any more" in (rare.note or "")
    monkeypatch.setitem(sys.modules, "autointerp.compare.weights", None)
    rare = autointerp.compare_runs([finished.path]).cards[0].rare
    assert rare is not None
    assert "not installed" in (rare.note or "")


def test_runs_that_differ_are_refused_with_the_difference_named(finished: Finished, call: Call, tmp_path: Path) -> None:
    """Guards against a gap that is another seed's windows; and when it is asked for all the same, it is marked."""
    other = copy_of(finished, tmp_path / "other")
    text = (other / "config.toml").read_text(encoding="utf-8")
    (other / "config.toml").write_text(text.replace("seed = 0", "seed = 1"), encoding="utf-8")
    references = (f"{finished.path}:planted", f"{other}:topk")
    refused = call("compare", *references)
    assert refused.code == 2
    assert "the seed of splits and windows differs: 0 in planted, 1 in topk" in refused.error
    assert not (tmp_path / "compare.json").exists()
    allowed = call("compare", *references, "--allow-mismatch")
    assert allowed.code == 0
    assert "NOT ALIKE: the seed" in allowed.out
    assert len(read(tmp_path).mismatches) == 1


def test_protocols_are_compared_feature_by_feature(finished: Finished, call: Call, tmp_path: Path) -> None:
    """The same features under 60 and 120 windows are pairs, not two samples."""
    run = copy_of(finished, tmp_path / "run")
    alone = call("compare", f"{run}:planted", "--by", "protocol")
    assert alone.code == 2
    assert "only one protocol was used (graded-60)" in alone.error
    assert call("score", run, "--windows", "120").code == 0
    ended = call("compare", f"{run}:planted", "--by", "protocol", "--out", tmp_path)
    assert ended.code == 0
    comparison = read(tmp_path)
    assert [arm.key for arm in comparison.arms] == ["graded-60", "graded-120"]
    pairing = comparison.contrasts[0].pairing
    assert pairing is not None
    assert pairing.kind == "same_feature"
    assert not pairing.same_windows
    assert pairing.n_matched_a >= len(WORDS)
    a, b = (dict(zip(arm.points.index, arm.points.value, strict=True)) for arm in comparison.arms)
    gaps = [a[i] - b[i] for i in a if i in b]
    assert comparison.contrasts[0].difference == pytest.approx(sum(gaps) / len(gaps), abs=1e-5)
    assert len(comparison.contrasts[0].differing) == 12
    assert all(side.windows for pair in comparison.contrasts[0].differing for side in (pair.a, pair.b))


def test_one_dictionary_stands_beside_its_runs_controls(small: SmallRun, call: Call, tmp_path: Path) -> None:
    """A configuration is run first; random directions of the run stand beside its dictionary unasked."""
    config = tmp_path / "two.toml"
    config.write_text(
        f'model = "{small.model}"\ncorpus = "{small.corpus}"\nfeatures = "all"\nout = "made"\n'
        f'[[dictionary]]\nid = "topk"\npath = "{small.topk}"\n[[dictionary]]\nid = "drawn"\npath = "random@topk"\n',
        encoding="utf-8",
    )
    ended = call("compare", config, "--json")
    assert ended.code == 0, ended.err
    comparison = read(tmp_path)
    assert [(arm.key, arm.kind, arm.asked) for arm in comparison.arms] == [
        ("topk", "trained", True),
        ("drawn", "random", False),
    ]
    assert comparison.contrasts[0].planned
    assert set(comparison.contrasts[0].groups) >= {"low entropy", "middle entropy", "high entropy"}
    assert "random directions" in (comparison.contrasts[0].no_pairing or "")
    assert (tmp_path / "made" / "summary.json").is_file()


def test_a_plan_says_how_many_features_and_what_they_cost(finished: Finished, call: Call, tmp_path: Path) -> None:
    """The smaller the gap, the more features; the plan is kept, and a pilot without overlap plans nothing."""
    numbers = []
    for gap in ("0.1", "0.05"):
        ended = call("compare", finished.path, "--plan", "--gap", gap, "--out", tmp_path / gap, "--json")
        assert ended.code == 0
        plan = json.loads((tmp_path / gap / "compare-plan.json").read_text(encoding="utf-8"))
        assert plan["contrasts"][0]["sentence"] in ended.out
        numbers.append(plan["contrasts"][0]["n_needed"])
    if numbers[0] is not None:
        assert numbers[1] == pytest.approx(4 * numbers[0], rel=0.05)
    else:
        assert numbers[1] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{run}:plantd"], "holds no dictionary plantd; near: planted"),
        (["{run}:planted"], "a comparison takes two dictionaries"),
        (["{run}:planted", "{run}:planted"], "is named twice"),
        (["nowhere"], "holds no run"),
        (["{run}", "--by", "colour"], "choose dictionary, explainer, judge, protocol"),
        (["{run}", "--by", "judge"], "only one judge was used"),
        (["{run}", "--plan", "--gap", "0"], "is no difference of correlations"),
        (["{run}", "--known", "nowhere"], "nowhere"),
        (["{run}", "--out", "{run}/summary.json"], "is a file; name a folder"),
        (["{run}", "--out", "{run}/summary.json/below"], "choose another --out"),
    ],
)
def test_a_wrong_wish_is_refused_in_one_sentence(
    finished: Finished, call: Call, tmp_path: Path, words: list[str], message: str
) -> None:
    """Each with exit code 2, what to do, and nothing left behind."""
    ended = call("compare", *(word.format(run=finished.path) for word in words))
    assert ended.code == 2
    assert message in ended.error
    assert not (tmp_path / "compare.json").exists()
