"""Rows that hold several documents give the records that one document a row gives."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from jaxtyping import Int

from autointerp.config import ProtocolName
from autointerp.examples import Chooser
from autointerp.interpret.protocols import PROTOCOLS
from autointerp.records import Example, FeatureRecord
from autointerp.splits import PARTS, CorpusIndex
from tests.unit.small_corpus import SmallCorpus, SmallReader, make_corpus, make_reader

SEED = 7


@dataclass
class PackedCorpus(SmallCorpus):
    """Several documents a row, by next fit."""

    starts: Int[np.ndarray, " n_document"] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def start(self) -> Int[np.ndarray, " n_document"]:
        """Slot of each document's first place."""
        return self.starts


def pack(corpus: SmallCorpus, context: int) -> PackedCorpus:
    starts: list[int] = []
    end = 0
    for length in corpus.length:
        if end % context + length > context or (end % context == 0 and end):
            end = -(-end // context) * context
        starts.append(end)
        end += int(length)
    tokens = np.zeros(-(-end // context) * context, corpus.tokens.dtype)
    for document, start in enumerate(starts):
        length = corpus.length[document]
        tokens[start : start + length] = corpus.tokens[document, :length]
    return PackedCorpus(
        tokens.reshape(-1, context), corpus.length, corpus.source, corpus.sources, corpus.vocabulary, corpus.first,
        context, np.array(starts),
    )  # fmt: skip


def repack(reader: SmallReader, packed: PackedCorpus) -> SmallReader:
    """The same activations at the packed slots."""
    dense = np.zeros((len(reader.dense), packed.tokens.size))
    for document, (old, new) in enumerate(zip(reader.corpus.start, packed.start, strict=True)):
        length = packed.length[document]
        dense[:, new : new + length] = reader.dense[:, old : old + length]
    return SmallReader(packed, dense, reader.near)


def placeless(record: FeatureRecord) -> FeatureRecord:
    """Without the rows, which differ by packing; every window starts at its place in its document."""

    def moved(examples: tuple[Example, ...]) -> tuple[Example, ...]:
        return tuple(e.model_copy(update={"record": e.record.model_copy(update=in_document(e))}) for e in examples)

    def in_document(e: Example) -> dict[str, object]:
        return {"row": 0, "start": e.record.start if e.record.place is None else e.record.place, "place": None}

    splits = record.splits.model_copy(update={part: moved(getattr(record.splits, part)) for part in PARTS})
    return record.model_copy(update={"splits": splits})


@pytest.mark.parametrize("protocol", ["simulate", "graded"])
@pytest.mark.parametrize("first", [0, 1])
def test_records_do_not_depend_on_packing(protocol: ProtocolName, first: int) -> None:
    """A window, a pair of tokens or a repeated text across a border would change a record."""
    corpus = make_corpus(n_source=300, repeated={3: 200, 5: 7})
    corpus = replace(corpus, first=first)
    reader = make_reader(corpus)
    packed = pack(corpus, 144)
    assert len(packed.tokens) < 0.6 * len(corpus.tokens)
    design = PROTOCOLS[protocol].design
    whole = Chooser(reader, CorpusIndex(corpus, SEED), "d", design)
    other = Chooser(repack(reader, packed), CorpusIndex(packed, SEED), "d", design)
    for feature in range(6):
        one, two = whole.feature_record(feature), other.feature_record(feature)
        assert placeless(one).splits == placeless(two).splits
        assert one.token_table == two.token_table
        assert one.position_table is not None
        assert two.position_table is not None
        assert two.position_table.levels[: len(one.position_table.levels)] == one.position_table.levels
        assert one.stats == two.stats


def test_windows_lie_in_one_document() -> None:
    """The whole point of keeping borders: every candidate, placed anywhere, with every width."""
    packed = pack(make_corpus(n_source=120), 144)
    index = CorpusIndex(packed, SEED)
    ends = packed.start + packed.length
    rng = np.random.default_rng(0)
    for width in (1, 8, 64, 200):
        slots = np.flatnonzero(index.text)
        placed = index.place(slots, rng.integers(0, width, len(slots)), width)
        for windows in (placed, *(index.candidates(part, width).windows for part in ("explain", "score"))):
            first = windows.slots(packed.context)
            document = index.document_of(first)
            assert (first >= packed.start[document] + packed.first).all()
            assert (first + windows.length <= ends[document]).all()
            assert (windows.start + windows.length <= packed.context).all()
        assert (placed.slots(packed.context) <= slots).all()
        assert (slots < placed.slots(packed.context) + placed.length).all()
