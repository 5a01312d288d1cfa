"""A harvest of packed rows: the events of one document a row, at other slots."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from autointerp.errors import UsageError
from autointerp.harvest import session
from autointerp.harvest.controls import spread_activations
from autointerp.harvest.events import Harvest
from autointerp.harvest.tokens import Corpus
from autointerp.splits import CorpusIndex
from autointerp.subject.model import load_model
from tests.small_run import SmallRun
from tests.unit.harvest.conftest import run_harvest, small_config


def by_document(harvest: Harvest, feature: int) -> Iterator[tuple[int, int, float]]:
    """(document, place, activation) of one feature's events."""
    index = CorpusIndex(harvest.corpus, 0)
    events = harvest.read(feature)
    yield from zip(
        index.document_of(events.slot).tolist(),
        index.place_of(events.slot).tolist(),
        events.value.tolist(),
        strict=True,
    )


@pytest.fixture(scope="module")
def both(short: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The harvest of a document a row, and the packed one."""
    whole = run_harvest(small_config(short, tmp_path_factory.mktemp("whole")))
    return whole, run_harvest(small_config(short, tmp_path_factory.mktemp("packed"), pack=True))


@pytest.mark.parametrize("name", ["planted", "topk"])
def test_events_do_not_depend_on_packing(both: tuple[Path, Path], name: str) -> None:
    """The second block attends, so a token seen across a border would show in the TopK dictionary."""
    whole, packed = (Harvest(folder, name) for folder in both)
    assert packed.corpus.packed
    assert packed.corpus.n_row < 0.6 * whole.corpus.n_row
    assert len(packed.corpus.length) == len(whole.corpus.length)
    assert packed.corpus.n_tokens == whole.corpus.n_tokens
    for feature in range(whole.spec.d_sae):
        one, two = list(by_document(whole, feature)), list(by_document(packed, feature))
        assert [event[:2] for event in one] == [event[:2] for event in two]
        assert [event[2] for event in one] == pytest.approx([event[2] for event in two], rel=2e-3, abs=1e-5)
        assert packed.feature_stats(feature).n_active == whole.feature_stats(feature).n_active


def test_a_model_that_cannot_pack_is_refused_before_any_token(
    small: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of tokenising must not end in a refusal."""

    def refuse(subject: object, hook_points: list[str], context: int) -> None:
        raise UsageError(f"no packing at {hook_points} of {context}")

    monkeypatch.setattr(session, "check_packing", refuse)
    with pytest.raises(UsageError, match=r"no packing at \['blocks\.0\.hook_resid_pre', 'blocks\.1\.hook_resid_post"):
        run_harvest(small_config(small, tmp_path, pack=True))
    assert not list(tmp_path.glob("harvest/_corpus/*"))


def test_controls_are_drawn_from_the_same_activations(short: SmallRun, both: tuple[Path, Path]) -> None:
    """Densities of random directions are matched on rows of their own choice, which may be packed as well."""
    subject = load_model(short.model, device="cpu")
    whole, packed = (spread_activations(subject, Corpus.open(folder), "blocks.1.hook_resid_post") for folder in both)
    torch.testing.assert_close(packed, whole, atol=1e-5, rtol=1e-5)


def test_padding_and_beginnings_have_no_events(both: tuple[Path, Path]) -> None:
    """BOS of a later document stands in the middle of a row; the dense feature must not fire there."""
    packed = Harvest(both[1], "planted")
    text = np.flatnonzero(CorpusIndex(packed.corpus, 0).text)
    assert len(text) == packed.corpus.n_tokens
    for feature in range(packed.spec.d_sae):
        assert np.isin(packed.read(feature).slot, text).all()
    assert any(len(packed.read(feature).slot) == len(text) for feature in range(packed.spec.d_sae))


@pytest.mark.parametrize("name", ["planted", "topk"])
def test_statistics_and_metrics_do_not_depend_on_packing(both: tuple[Path, Path], name: str) -> None:
    """Documents counted by row, or a loss that sees the document before, would differ."""
    whole, packed = (Harvest(folder, name) for folder in both)
    assert (packed.stats.n_document == whole.stats.n_document).all()
    assert packed.masked | {"padding": 0} == whole.masked | {"padding": 0}
    assert packed.masked["padding"] < whole.masked["padding"]
    one, two = whole.metrics, packed.metrics
    assert one.loss is not None
    assert two.loss is not None
    assert one.reconstruction is not None
    assert two.reconstruction is not None
    assert two.loss.model_dump() == pytest.approx(one.loss.model_dump(), rel=1e-4, abs=1e-6)
    assert two.reconstruction.model_dump() == pytest.approx(one.reconstruction.model_dump(), rel=1e-4)


def test_a_kept_sample_of_packed_rows_is_that_of_single_rows(short: SmallRun, tmp_path: Path) -> None:
    """Documents are kept, not rows: which ones, their activations and the strongest windows are the same either way."""
    keep = {"keep": "sample", "keep_tokens": 1024, "keep_strongest": 2, "skip_tokens": 1, "max_norm": 1.01}
    whole, packed = (
        Harvest(run_harvest(small_config(short, tmp_path / str(pack), pack=pack, **keep)), "topk")
        for pack in (False, True)
    )
    assert packed.corpus.kept is not None
    assert whole.corpus.kept is not None
    assert packed.corpus.kept.tolist() == whole.corpus.kept.tolist()
    assert 0 < len(packed.corpus.kept) < len(Corpus.open_whole(tmp_path / "True" / "harvest").length)
    text = CorpusIndex(whole.corpus, 0).text.reshape(whole.corpus.tokens.shape)
    assert (packed.corpus.tokens[text] == whole.corpus.tokens[text]).all()
    assert packed.corpus.length.tolist() == whole.corpus.length.tolist()
    assert packed.corpus.source.tolist() == whole.corpus.source.tolist()
    assert whole.masked["norm"] > 0
    assert packed.masked_slots.tolist() == whole.masked_slots.tolist()
    assert packed.masked["position"] == whole.masked["position"] > 0
    index = packed.corpus.whole
    assert index is not None
    for feature in range(whole.spec.d_sae):
        one, two = whole.read(feature), packed.read(feature)
        assert one.slot.tolist() == two.slot.tolist()
        assert one.value.tolist() == pytest.approx(two.value.tolist(), rel=2e-3, abs=1e-5)
        document = index.document_of(packed.strongest(feature).slot)
        place = packed.strongest(feature).slot - index.start[document]
        if len(document):
            values = packed.strongest(feature).value
            assert values.max() == pytest.approx(float(whole.stats.max[feature]), rel=2e-3)
            assert (place < index.length[document]).all()
        assert packed.stats.n_document[feature] == whole.stats.n_document[feature]
        assert packed.stats.n_active[feature] == whole.stats.n_active[feature]
