"""Looking at a harvest from Python: complete windows, silent ones, documents, against brute force."""

from pathlib import Path

import numpy as np
import pytest

import autointerp
from autointerp.errors import UsageError
from autointerp.harvest.events import Harvest
from autointerp.records import ActivationRecord
from tests.small_run import DEAD, DENSE, SmallRun
from tests.unit.harvest.conftest import run_harvest, small_config


@pytest.fixture(scope="module")
def packed(short: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Harvest:
    """Several documents a row, and the first places of each masked."""
    folder = run_harvest(small_config(short, tmp_path_factory.mktemp("packed"), pack=True, skip_tokens=2))
    return Harvest(folder, "planted")


def slots_of(harvest: Harvest, record: ActivationRecord) -> range:
    first = record.row * harvest.corpus.context + record.start
    return range(first, first + len(record.tokens))


def check(harvest: Harvest, feature: int, record: ActivationRecord) -> None:
    """Its tokens and all its activations are the corpus's and the events', and it lies in one document."""
    slots = slots_of(harvest, record)
    corpus, events = harvest.corpus, harvest.read(feature)
    known = dict(zip(events.slot.tolist(), events.value.tolist(), strict=True))
    assert record.activations == tuple(known.get(slot, 0.0) for slot in slots)
    assert record.tokens == tuple(corpus.vocabulary[corpus.tokens.reshape(-1)[slot]] for slot in slots)
    document = int(corpus.document_of(np.array([slots[0]]))[0])
    start, length = int(corpus.start[document]), int(corpus.length[document])
    assert start + corpus.first <= slots[0]
    assert slots[-1] < start + length
    assert record.document == corpus.sources[int(corpus.source[document])]
    assert (record.start if record.place is None else record.place) == slots[0] - start


@pytest.mark.parametrize("name", ["rows", "packed"])
def test_windows_hold_every_activation(harvested: Path, packed: Harvest, name: str) -> None:
    """A window with the peak alone would hide what else the feature fires on."""
    harvest = packed if name == "packed" else Harvest(harvested, "topk")
    for feature in range(harvest.spec.d_sae):
        found = harvest.windows(feature, n=5, width=12)
        for record in found:
            check(harvest, feature, record)
        peaks = [max(record.activations) for record in found]
        assert peaks == sorted(peaks, reverse=True)
        if found:
            assert peaks[0] == harvest.read(feature).value.max()


@pytest.mark.parametrize("name", ["rows", "packed"])
def test_silent_windows_are_silent_known_and_apart(harvested: Path, packed: Harvest, name: str) -> None:
    """A negative with an activation in it, or with a token nobody looked at, is none."""
    harvest = packed if name == "packed" else Harvest(harvested, "topk")
    masked = set(harvest.masked_slots.tolist())
    assert bool(masked) == (name == "packed")
    for feature in range(harvest.spec.d_sae):
        found = harvest.silent_windows(feature, n=40, width=6, seed=1)
        seen: set[int] = set()
        for record in found:
            check(harvest, feature, record)
            assert not any(record.activations)
            assert not (seen | masked) & set(slots_of(harvest, record))
            seen |= set(slots_of(harvest, record))
        assert found == harvest.silent_windows(feature, n=40, width=6, seed=1)
        assert not found or found != harvest.silent_windows(feature, n=40, width=6, seed=2)


def test_a_dead_feature_is_silent_everywhere_and_a_dense_one_nowhere(harvested: Path) -> None:
    harvest = Harvest(harvested, "planted")
    assert harvest.windows(DEAD) == []
    assert len(harvest.silent_windows(DEAD, n=30, width=8)) == 30
    assert harvest.silent_windows(DENSE, n=30, width=8) == []


@pytest.mark.parametrize(("n", "width"), [(20, 0), (20, -5), (-1, 64)])
def test_windows_that_cannot_be_are_refused(harvested: Path, n: int, width: int) -> None:
    """They ended in errors of numpy and pydantic, and n=-1 gave all windows but one."""
    harvest = Harvest(harvested, "topk")
    for look in (harvest.windows, harvest.silent_windows):
        with pytest.raises(UsageError, match=f"n at least 0 and width at least 1, not n={n} and width={width}"):
            look(0, n=n, width=width)
        assert look(0, n=0, width=1) == []


def test_documents_of_packed_rows(packed: Harvest) -> None:
    """A row of several documents is not one of them."""
    corpus = packed.corpus
    assert len(corpus.start) > corpus.n_row
    for document in (0, 1, len(corpus.start) - 1):
        events = packed.read_document(document)
        start, length = int(corpus.start[document]), int(corpus.length[document])
        expected = [
            (feature, slot - start, value)
            for feature in range(packed.spec.d_sae)
            for slot, value in zip(*(field.tolist() for field in packed.read(feature)), strict=True)
            if start <= slot < start + length
        ]
        assert list(zip(*(field.tolist() for field in events), strict=True)) == expected
    with pytest.raises(UsageError, match="documents 0 to"):
        packed.read_document(len(corpus.start))


def test_a_run_is_opened_by_its_folder(harvested: Path) -> None:
    harvest = autointerp.open_harvest(harvested.parent, "planted")
    assert harvest.read(0).slot.tolist() == Harvest(harvested, "planted").read(0).slot.tolist()
    assert harvest.metrics.reconstruction is not None
    with pytest.raises(UsageError, match="no finished harvest of other, but of planted, topk"):
        autointerp.open_harvest(harvested.parent, "other")
