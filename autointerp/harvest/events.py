"""A harvest on disk, read without torch: events by feature in shards, statistics, facts.

    _corpus/                     the tokens; see `harvest.tokens`
    <dictionary>/plan.json       what the pass was started with; a resume with anything else is refused
    <dictionary>/shard-00000.safetensors   as `harvest.shards` says
    <dictionary>/stats.safetensors, facts.safetensors, massive.safetensors
    <dictionary>/manifest.json   the finished files with digests, what was masked, metrics; written last

An event is one token on which one feature is active. Where a sample of the corpus is kept, readers see a corpus of the
kept documents alone, each a row, on which all activations are known. Arrays flow out; nothing here knows a model.
"""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from autointerp.config import HarvestPart
from autointerp.errors import AutointerpError, RunError, UsageError
from autointerp.harvest.arrays import REPAIR, map_arrays
from autointerp.harvest.masks import TextMask
from autointerp.harvest.shards import FeatureEvents, Shard
from autointerp.harvest.tokens import KEPT, Corpus, read_sealed
from autointerp.harvest.windows import read_windows, silent_windows, strongest_windows
from autointerp.metrics import DictionaryMetrics
from autointerp.provenance import generator, unseal
from autointerp.records import ActivationRecord, DictionarySpec, FeatureFacts, FeatureStats
from autointerp.splits import CorpusIndex


class StatsArrays(NamedTuple):
    """Per-feature statistics of a whole harvest, features first."""

    n_active: Int[np.ndarray, " d_sae"]
    max: Float[np.ndarray, " d_sae"]
    total: Float[np.ndarray, " d_sae"]
    """Sum of activations."""
    deciles: Float[np.ndarray, "d_sae 9"]
    level_edges: Float[np.ndarray, "d_sae 9"]
    by_rank: Bool[np.ndarray, " d_sae"]
    """Fewer than ten distinct activations: levels go by rank."""
    histogram: Int[np.ndarray, "d_sae bin"]
    """Counts in equal bins from 0 to max."""
    log_histogram: Int[np.ndarray, "d_sae log_bin"]
    """Counts in half-octaves up to max, the last bin ending there and the first holding all that is smaller."""
    n_document: Int[np.ndarray, " d_sae"]
    """Documents with at least one active token."""
    top_token: Int[np.ndarray, "d_sae 10"]
    """Tokens with the largest sum of activations, largest first; -1 where there are fewer."""
    top_token_count: Int[np.ndarray, "d_sae 10"]
    top_token_total: Float[np.ndarray, "d_sae 10"]


class FactsArrays(NamedTuple):
    """What the weights alone say, features first; empty arrays where a fact cannot be had."""

    direction: Float[np.ndarray, "d_sae d_out"]
    """Unit decoder directions, fp16."""
    decoder_norm: Float[np.ndarray, " d_sae"]
    encoder_decoder_cosine: Float[np.ndarray, " d_sae"]
    neighbour: Int[np.ndarray, "d_sae 20"]
    neighbour_cosine: Float[np.ndarray, "d_sae 20"]
    top_output: Int[np.ndarray, "d_sae 20"]
    top_output_weight: Float[np.ndarray, "d_sae 20"]
    bottom_output: Int[np.ndarray, "d_sae 20"]
    bottom_output_weight: Float[np.ndarray, "d_sae 20"]


MASSIVE_FILE = "massive.safetensors"


class MassiveArrays(NamedTuple):
    """Where a harvest met massive activations."""

    slot: Int[np.ndarray, " n"]
    """Of all documents, kept or not; ascending."""
    maximum: Bool[np.ndarray, " d_sae"]
    """Features whose maximum stands on one and is over `metrics.OUTSIZED` times their 9th decile."""


class PartDone(NamedTuple):
    """What one part of a harvest left behind."""

    part: HarvestPart
    shards: dict[str, list[str]]
    """Names of its shard files by dictionary id."""


def shards_of(folder: Path, part: HarvestPart) -> list[str]:
    """Names of the shards of one part that a dictionary's folder holds, in order."""
    names = sorted(path.name for path in folder.glob("shard-*.safetensors"))
    return [name for name in names if int(name[6:11]) % part.of == part.number]


def tokens_done(harvest: Path, dictionary: str) -> tuple[int, int] | None:
    """Tokens of a dictionary's finished shards, and of the whole corpus; None before tokens and plan stand."""
    try:
        corpus = Corpus.open_whole(harvest)
        rows = int(unseal((harvest / dictionary / "plan.json").read_text(encoding="utf-8"))["shard_rows"])
        starts = [int(path.name[6:11]) * rows for path in (harvest / dictionary).glob("shard-*.safetensors")]
        done = sum(corpus.count_tokens(slice(low, min(low + rows, corpus.n_row))) for low in starts)
    except (AutointerpError, OSError, ValueError, KeyError, TypeError):
        return None
    return done, corpus.n_tokens


def is_finished(folder: Path) -> bool:
    """Whether a dictionary's folder holds its manifest and every file that it speaks of.

    Raises:
        UsageError: another version of autointerp made it.
    """
    if not (folder / "manifest.json").is_file():
        return False
    return all((folder / name).is_file() for name in digests(folder))


def digests(folder: Path) -> dict[str, str]:
    """The digest of each file of a finished harvest by name."""
    manifest = read_manifest(folder)
    try:
        files: dict[str, str] = {str(name): str(digest) for name, digest in manifest["files"].items()}
    except (KeyError, AttributeError):
        raise RunError(_damaged_manifest(folder)) from None
    return files


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a finished harvest says of itself.

    Raises:
        UsageError: another version of autointerp made it.
        RunError: it is damaged.
    """
    try:
        return read_sealed(folder / "manifest.json")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RunError(_damaged_manifest(folder)) from None


def _damaged_manifest(folder: Path) -> str:
    return f"{folder / 'manifest.json'} is damaged; {REPAIR}"


class DocumentEvents(NamedTuple):
    """All activations on one document, by feature."""

    feature: Int[np.ndarray, " n"]
    place: Int[np.ndarray, " n"]
    """Place of the token in the document, BOS included."""
    value: Float[np.ndarray, " n"]


class Harvest:
    """A finished harvest of one dictionary, open for reading. No reading method touches torch.

    Text is held in rows of `corpus.context` tokens. A slot is one place of one row, row * context + place in the row. A
    document is a stretch of one source inside one row (a long source is several); place 0 of a document is BOS where
    rows begin with it (`corpus.first` is 1 then): its text begins at place 1. `corpus.start` and `corpus.length` say
    where document i begins, as a slot, and how many tokens it has, BOS included.

    Attributes:
        spec: what the dictionary is: its id, model, hook point, widths and kind.
        corpus: the text as token ids, `corpus.tokens` [row, place], with `corpus.vocabulary` their escaped texts.
        n_tokens: tokens looked at: text, without BOS, padding and what else was masked.
        masked: tokens left out by reason.
        metrics: the dictionary's own figures: L0, reconstruction, loss, massive tokens.
        manifest: what the harvest's last file says: files with digests, the plan, when and where it was made.
        stats: statistics of all features, as arrays; facts: what the weights say of them.
    """

    def __repr__(self) -> str:
        s = self.spec
        return f"<Harvest {s.id}: {s.d_sae:,} features at {s.hook_point}, {self.n_tokens:,} tokens, in {self.folder}>"

    def __init__(self, harvest: Path, dictionary: str) -> None:
        self.folder = harvest / dictionary
        if not is_finished(self.folder):
            raise UsageError(f"{self.folder} holds no finished harvest; run `autointerp harvest` again to finish it")
        self.manifest = read_manifest(self.folder)
        try:
            self.spec = DictionarySpec.model_validate(self.manifest["dictionary"])
            self.n_tokens = int(self.manifest["n_tokens"])
            """Tokens looked at: of all rows, without BOS, padding and what else was masked."""
            self.masked: dict[str, int] = self.manifest["masked"]
            """Tokens left out by reason."""
            self.metrics = DictionaryMetrics.model_validate(self.manifest["metrics"])
        except (KeyError, ValueError):
            raise RunError(_damaged_manifest(self.folder)) from None
        self.corpus = Corpus.open(harvest)
        self._check_corpus()
        names = sorted(name for name in self.manifest["files"] if name.startswith("shard-"))
        self._shards = [Shard(self.folder / name, self.corpus.context) for name in names]

    def _check_corpus(self) -> None:
        """Refuse tokens that are not those that were harvested: slots would be read as other slots."""
        plan, folder = self.manifest["plan"], self.corpus.folder
        if (plan["keep"] == "sample") != (self.corpus.kept is not None):
            raise RunError(f"{folder / KEPT} is missing, or of no harvest here; {REPAIR}")
        if plan["corpus"] != self.corpus.digest:
            raise RunError(f"{self.folder} is the harvest of other text than {folder} holds; move one of them away")

    def read(self, feature: int) -> FeatureEvents:
        """All events of one feature on the rows of `corpus`, by slot.

        Raises:
            UsageError: there is no such feature.
            RunError: its events changed on disk.
        """
        self._check_feature(feature)
        parts = [shard.events.read(feature) for shard in self._shards]
        return parts[0] if len(parts) == 1 else _join(parts)

    def read_document(self, document: int) -> DocumentEvents:
        """All activations on one document of `corpus`, features ascending.

        Places count from 0, which is BOS where documents begin with it; `corpus.start` and `length` say where it is.

        Raises:
            UsageError: there is no such document.
            RunError: events changed on disk.
        """
        n_document = len(self.corpus.start)
        if not 0 <= document < n_document:
            raise UsageError(f"the corpus of {self.folder} has documents 0 to {n_document - 1}, not {document}")
        starts = [shard.events.first_slot for shard in self._shards]
        first = int(self.corpus.start[document])
        holder = self._shards[int(np.searchsorted(starts, first, side="right")) - 1]
        feature, slot, value = holder.events.read_slots(first, first + int(self.corpus.length[document]))
        return DocumentEvents(feature, slot - first, value)

    def windows(self, feature: int, n: int = 20, width: int = 64) -> list[ActivationRecord]:
        """At most n windows around a feature's strongest activations, one a document, with those on every token.

        Windows are of `width` tokens, fewer in shorter documents. Their tokens are escaped, a text for each:
        `autointerp.format.plain_text(window.tokens)` is the text itself.

        Raises:
            UsageError: there is no such feature.
            RunError: its events changed on disk.
        """
        events = self.read(feature)
        return read_windows(self._index, strongest_windows(self._index, events, n, width), events)

    def silent_windows(self, feature: int, n: int = 20, width: int = 64, seed: int = 0) -> list[ActivationRecord]:
        """At most n windows at random in which a feature is active nowhere and no token was masked.

        They do not overlap; a feature that is active nearly everywhere has fewer.

        Raises:
            UsageError: there is no such feature.
            RunError: its events changed on disk.
        """
        events = self.read(feature)
        rng = generator(seed, self.spec.id, feature, "silent windows")
        return read_windows(self._index, silent_windows(self._index, events, n, width, rng), events)

    @cached_property
    def _index(self) -> CorpusIndex:
        return CorpusIndex(self.corpus, 0, self.masked_slots)

    def strongest(self, feature: int) -> FeatureEvents:
        """Events in the feature's strongest windows over all documents, kept or not; slots are those of `corpus.whole`.

        Empty where all rows are kept: then they are among `read`.
        """
        self._check_feature(feature)
        parts = [shard.strongest.read(feature) for shard in self._shards if shard.strongest is not None]
        return _join(parts) if parts else FeatureEvents(np.zeros(0, np.int64), np.zeros(0, np.float32))

    @cached_property
    def masked_slots(self) -> Int[np.ndarray, " n"]:
        """Slots of text in `corpus` that were not looked at, ascending: nothing is known there.

        By place or token, as the pass was told, or because the activations were too large.
        """
        outliers = np.concatenate([shard.masked for shard in self._shards])
        if not self.masked["position"] and not self.masked["special"]:
            return outliers
        plan = self.manifest["plan"]
        text = TextMask(self.corpus, plan["skip_tokens"], special=plan["special_tokens"])
        return np.union1d(text.left_out(), outliers)

    def _check_feature(self, feature: int) -> None:
        if not 0 <= feature < self.spec.d_sae:
            raise UsageError(f"dictionary {self.spec.id} has features 0 to {self.spec.d_sae - 1}, not {feature}")

    @cached_property
    def stats(self) -> StatsArrays:
        """Statistics of all features."""
        return StatsArrays(**map_arrays(self.folder / "stats.safetensors")[0])

    @cached_property
    def facts(self) -> FactsArrays:
        """Weight-side facts of all features."""
        return FactsArrays(**map_arrays(self.folder / "facts.safetensors")[0])

    @cached_property
    def massive(self) -> MassiveArrays | None:
        """Where activations are massive, and the features whose maximum that is; None where that was not counted."""
        path = self.folder / MASSIVE_FILE
        return MassiveArrays(**map_arrays(path)[0]) if path.is_file() else None

    def feature_stats(self, feature: int) -> FeatureStats:
        """One feature's statistics as a record."""
        s = self.stats
        n = int(s.n_active[feature])
        return FeatureStats(
            n_tokens=self.n_tokens,
            n_active=n,
            max=float(s.max[feature]),
            mean_active=float(s.total[feature]) / n if n else 0.0,
            deciles=tuple(s.deciles[feature].tolist()) if s.histogram[feature].any() else (),
            histogram=tuple(s.histogram[feature].tolist()),
        )

    def level_rule(self, feature: int) -> tuple[Float[np.ndarray, "9"], bool]:
        """The nine level edges, and whether they go by rank."""
        return np.asarray(self.stats.level_edges[feature]), bool(self.stats.by_rank[feature])

    def neighbours(self, feature: int) -> tuple[tuple[int, float], ...]:
        """Features with the nearest decoder directions, nearest first."""
        if not len(self.facts.neighbour):
            return ()
        cosines = self.facts.neighbour_cosine[feature].tolist()
        pairs = zip(self.facts.neighbour[feature].tolist(), cosines, strict=True)
        return tuple((index, round(cosine, 4)) for index, cosine in pairs if index >= 0)

    def feature_facts(self, feature: int) -> FeatureFacts:
        """One feature's weight-side facts as a record."""
        f, words = self.facts, self.corpus.vocabulary

        def outputs(ids: np.ndarray, weights: np.ndarray) -> tuple[tuple[str, float], ...]:
            if not len(ids):
                return ()
            pairs = zip(ids[feature].tolist(), weights[feature].tolist(), strict=True)
            return tuple((words[i], round(w, 4)) for i, w in pairs)

        return FeatureFacts(
            decoder_norm=round(float(f.decoder_norm[feature]), 5) if len(f.decoder_norm) else None,
            encoder_decoder_cosine=(
                round(float(f.encoder_decoder_cosine[feature]), 5) if len(f.encoder_decoder_cosine) else None
            ),
            neighbours=self.neighbours(feature),
            top_outputs=outputs(f.top_output, f.top_output_weight),
            bottom_outputs=outputs(f.bottom_output, f.bottom_output_weight),
        )


def _join(parts: Sequence[FeatureEvents]) -> FeatureEvents:
    return FeatureEvents(np.concatenate([p.slot for p in parts]), np.concatenate([p.value for p in parts]))


def free_bytes(folder: Path) -> int:
    """Bytes free on the disk that holds a folder, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
