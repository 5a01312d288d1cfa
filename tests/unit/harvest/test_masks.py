"""Which tokens are looked at, that the rest is counted, and what damage a repair finds."""

from pathlib import Path

import numpy as np
import pytest

from autointerp.harvest.controls import spread_activations
from autointerp.harvest.events import Harvest
from autointerp.harvest.masks import TextMask
from autointerp.harvest.tokens import Corpus
from autointerp.subject.model import load_model
from tests.small_run import HOOK, SmallRun
from tests.unit.harvest.conftest import run_harvest, small_config


def corpus_of(rows: list[list[int]], length: list[int], words: tuple[str, ...]) -> Corpus:
    corpus = Corpus(Path(), "x", "d", len(rows), len(rows[0]), 1, sum(length) - len(rows), {}, ("s",), words)
    object.__setattr__(corpus, "tokens", np.array(rows))
    object.__setattr__(corpus, "length", np.array(length))
    return corpus


def test_reasons_by_hand() -> None:
    """BOS, then one skipped place, text with a special token in it, padding: 3 + 2 + 1 + 4 of 15 places, 5 left."""
    words = ("\\s{bos}", " a", "\\s{end}")
    corpus = corpus_of([[0, 1, 1, 2, 1], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]], [5, 4, 1], words)
    mask = TextMask(corpus, 1, special=False)
    expected = [[False, False, True, False, True], [False, False, True, True, False], [False] * 5]
    assert mask.of_rows(np.arange(3), corpus.places(np.arange(3))).tolist() == expected
    counts = mask.count()
    assert counts == {"bos": 3, "padding": 5, "position": 2, "special": 1}
    assert sum(counts.values()) + int(np.sum(expected)) == 15
    assert TextMask(corpus, 0, special=True).count() == {"bos": 3, "padding": 5, "position": 0, "special": 0}


def test_skipped_places_have_no_events(small: SmallRun, harvested: Path, tmp_path: Path) -> None:
    """The first tokens of a document see no context; a pass told to leave them out must count them, too."""
    whole = Harvest(harvested, "topk")
    skipped = Harvest(run_harvest(small_config(small, tmp_path, skip_tokens=3)), "topk")
    assert skipped.masked["position"] == int(np.minimum(whole.corpus.length - 1, 3).sum())
    assert skipped.n_tokens == whole.n_tokens - skipped.masked["position"]
    for feature in range(whole.spec.d_sae):
        slot = whole.read(feature).slot
        assert skipped.read(feature).slot.tolist() == slot[slot % whole.corpus.context > 3].tolist()
        assert skipped.feature_stats(feature).n_tokens == skipped.n_tokens


def test_outlier_norms_are_masked_and_named(small: SmallRun, harvested: Path, tmp_path: Path) -> None:
    """One token of a huge norm is active on every feature; what is masked is neither active nor known to be silent."""
    subject = load_model(small.model, device="cpu")
    whole = Harvest(harvested, "topk")
    hook = whole.spec.hook_point
    norms = spread_activations(subject, whole.corpus, hook).norm(dim=1)
    times = float(norms.sort().values[-200] / norms.median())
    assert times > 1
    masked = Harvest(run_harvest(small_config(small, tmp_path, max_norm=times)), "topk")
    assert 150 <= masked.masked["norm"] <= 250
    assert masked.n_tokens == whole.n_tokens - masked.masked["norm"]
    assert len(masked.masked_slots) == masked.masked["norm"]
    out = set(masked.masked_slots.tolist())
    for feature in range(whole.spec.d_sae):
        slot = whole.read(feature).slot
        assert masked.read(feature).slot.tolist() == [s for s in slot.tolist() if s not in out]
    assert hook != HOOK


def test_one_document_is_the_column_of_all_features(harvested: Path) -> None:
    """All activations on one document, against every feature's own events."""
    harvest = Harvest(harvested, "topk")
    context = harvest.corpus.context
    for row in (0, 17, harvest.corpus.n_row - 1):
        events = harvest.read_document(row)
        found = list(zip(events.feature.tolist(), events.place.tolist(), events.value.tolist(), strict=True))
        expected = [
            (feature, slot - row * context, value)
            for feature in range(harvest.spec.d_sae)
            for slot, value in zip(*(field.tolist() for field in harvest.read(feature)), strict=True)
            if slot // context == row
        ]
        assert found == expected
        assert len(found) == 4 * (harvest.corpus.length[row] - 1)


def test_top_tokens_by_hand(harvested: Path) -> None:
    """A planted feature's only token is its word, as often as it is active."""
    harvest = Harvest(harvested, "planted")
    for feature in range(harvest.spec.d_sae):
        slot, value = harvest.read(feature)
        tokens = harvest.corpus.tokens.reshape(-1)[slot]
        totals = {int(t): float(value[tokens == t].astype(np.float64).sum()) for t in np.unique(tokens)}
        best = sorted(totals.items(), key=lambda item: -item[1])[:10]
        stats = harvest.stats
        n = len(best)
        assert stats.top_token_total[feature, :n] == pytest.approx([total for _, total in best])
        assert (stats.top_token[feature, n:] == -1).all()
        counts = [int((tokens == t).sum()) for t in stats.top_token[feature, :n].tolist()]
        assert stats.top_token_count[feature, :n].tolist() == counts
        assert stats.n_document[feature] == len(np.unique(slot // harvest.corpus.context))
        top = value.max(initial=0)
        octave = [int(((value > top * 2 ** (-(j + 1) / 2)) & (value <= top * 2 ** (-j / 2))).sum()) for j in range(23)]
        assert stats.log_histogram[feature, ::-1][:23].tolist() == octave
        assert stats.log_histogram[feature].sum() == len(value)
