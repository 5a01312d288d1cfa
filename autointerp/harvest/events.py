"""A harvest on disk, written and read without torch: events by feature in shards, statistics, facts.

    _corpus/                     the tokens; see `harvest.tokens`
    <dictionary>/plan.json       what the pass was started with; a resume with anything else is refused
    <dictionary>/shard-00000.safetensors   indptr [d_sae + 1], position [n_event], value [n_event]
    <dictionary>/stats.safetensors, facts.safetensors
    <dictionary>/manifest.json   the finished shards with digests; written last

An event is one token on which one feature is active. `position` is row * context + place in the row, counted from the
shard's first row. `value` is fp16 after division by the shard's power of two, which stands in its header. Arrays flow
in and out; nothing here knows a model.
"""

import json
import math
import os
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from autointerp.config import HarvestPart
from autointerp.errors import RunError, UsageError
from autointerp.harvest.arrays import map_arrays, save_arrays
from autointerp.harvest.tokens import Corpus
from autointerp.records import DictionarySpec, FeatureFacts, FeatureStats

FORMAT_VERSION = 1
_TARGET_EXPONENT = 15
_LEAST_EXPONENT = -125
"""Below it the scale, or the smallest stored value times it, would be 0 in float32."""
_SMALLEST = np.float16(2.0**-24)


class FeatureEvents(NamedTuple):
    """One feature's activations over the whole corpus."""

    slot: Int[np.ndarray, " n"]
    """row * context + place, ascending."""
    value: Float[np.ndarray, " n"]
    """Raw units, never zero; float32."""


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


class ShardArrays(NamedTuple):
    """One shard's events, feature-major."""

    indptr: Int[np.ndarray, " d_sae_plus_1"]
    position: Int[np.ndarray, " n_event"]
    value: Float[np.ndarray, " n_event"]
    """Raw units, float32."""


def shard_name(index: int) -> str:
    """File name of a shard."""
    return f"shard-{index:05d}.safetensors"


def write_shard(path: Path, shard: ShardArrays, meta: dict[str, object]) -> None:
    """Commit one shard.

    Raises:
        RunError: an activation is NaN or infinite; the text names its feature and position.
    """
    bad = np.flatnonzero(~np.isfinite(shard.value))
    if len(bad):
        feature = int(np.searchsorted(shard.indptr, bad[0], side="right")) - 1
        raise RunError(
            f"feature {feature} has the activation {shard.value[bad[0]]} at position {int(shard.position[bad[0]])} of "
            f"{path.stem}; check the model's and the dictionary's weights and dtype"
        )
    largest = float(np.abs(shard.value).max(initial=0.0))
    exponent = max(math.frexp(largest)[1] - _TARGET_EXPONENT, _LEAST_EXPONENT) if largest else 0
    stored = np.ldexp(shard.value, -exponent).astype(np.float16)
    stored = np.where(stored == 0, np.copysign(_SMALLEST, shard.value).astype(np.float16), stored)
    index_type = np.int32 if len(stored) < 2**31 else np.int64
    save_arrays(
        path,
        {
            "indptr": shard.indptr.astype(index_type),
            "position": shard.position.astype(np.uint32),
            "value": stored,
        },
        {**meta, "scale_exponent": exponent},
    )


class Shard:
    """One open shard."""

    def __init__(self, path: Path, context: int) -> None:
        arrays, meta = map_arrays(path)
        try:
            self.indptr, self._position, self._value = arrays["indptr"], arrays["position"], arrays["value"]
            self.first_slot = int(str(meta["first_row"])) * context
            self._scale = np.float32(2.0 ** int(str(meta["scale_exponent"])))
        except KeyError as error:
            raise RunError(f"{path} lacks {error}; delete it and run the harvest again, which redoes it") from None

    def read(self, feature: int) -> FeatureEvents:
        """One feature's events in this shard."""
        part = slice(int(self.indptr[feature]), int(self.indptr[feature + 1]))
        return FeatureEvents(
            self._position[part].astype(np.int64) + self.first_slot, self._value[part].astype(np.float32) * self._scale
        )


class PartDone(NamedTuple):
    """What one part of a harvest left behind."""

    part: HarvestPart
    shards: dict[str, list[str]]
    """Names of its shard files by dictionary id."""


def shards_of(folder: Path, part: HarvestPart) -> list[str]:
    """Names of the shards of one part that a dictionary's folder holds, in order."""
    names = sorted(path.name for path in folder.glob("shard-*.safetensors"))
    return [name for name in names if int(name[6:11]) % part.of == part.number]


def is_finished(folder: Path) -> bool:
    """Whether a dictionary's folder holds its manifest and every file that it speaks of."""
    if not (folder / "manifest.json").is_file():
        return False
    names = [*_shard_names(folder), "stats.safetensors", "facts.safetensors"]
    return all((folder / name).is_file() for name in names)


def _shard_names(folder: Path) -> list[str]:
    try:
        return [str(shard["name"]) for shard in _read_manifest(folder)["shards"]]
    except (KeyError, TypeError):
        raise RunError(_damaged_manifest(folder)) from None


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except ValueError:
        raise RunError(_damaged_manifest(folder)) from None
    return values


def _damaged_manifest(folder: Path) -> str:
    return f"{folder / 'manifest.json'} is damaged; delete it and run the harvest again, which keeps finished shards"


class Harvest:
    """A finished harvest of one dictionary, open for reading."""

    def __init__(self, harvest: Path, dictionary: str) -> None:
        self.folder = harvest / dictionary
        if not is_finished(self.folder):
            raise UsageError(f"{self.folder} holds no finished harvest; run `autointerp harvest` again to finish it")
        self.manifest = _read_manifest(self.folder)
        try:
            self.spec = DictionarySpec.model_validate(self.manifest["dictionary"])
        except (KeyError, ValueError):
            raise RunError(_damaged_manifest(self.folder)) from None
        self.corpus = Corpus.open(harvest)
        self._shards = [Shard(self.folder / name, self.corpus.context) for name in _shard_names(self.folder)]

    def read(self, feature: int) -> FeatureEvents:
        """All events of one feature, by slot."""
        if not 0 <= feature < self.spec.d_sae:
            raise UsageError(f"dictionary {self.spec.id} has features 0 to {self.spec.d_sae - 1}, not {feature}")
        parts = [shard.read(feature) for shard in self._shards]
        return FeatureEvents(np.concatenate([p.slot for p in parts]), np.concatenate([p.value for p in parts]))

    @cached_property
    def stats(self) -> StatsArrays:
        """Statistics of all features."""
        return StatsArrays(**map_arrays(self.folder / "stats.safetensors")[0])

    @cached_property
    def facts(self) -> FactsArrays:
        """Weight-side facts of all features."""
        return FactsArrays(**map_arrays(self.folder / "facts.safetensors")[0])

    def feature_stats(self, feature: int) -> FeatureStats:
        """One feature's statistics as a record."""
        s = self.stats
        n = int(s.n_active[feature])
        return FeatureStats(
            n_tokens=self.corpus.n_tokens,
            n_active=n,
            max=float(s.max[feature]),
            mean_active=float(s.total[feature]) / n if n else 0.0,
            deciles=tuple(s.deciles[feature].tolist()) if n else (),
            histogram=tuple(s.histogram[feature].tolist()),
        )

    def level_rule(self, feature: int) -> tuple[Float[np.ndarray, "9"], bool]:
        """The nine level edges, and whether they go by rank."""
        return np.asarray(self.stats.level_edges[feature]), bool(self.stats.by_rank[feature])

    def neighbours(self, feature: int) -> tuple[tuple[int, float], ...]:
        """Features with the nearest decoder directions, nearest first."""
        if not len(self.facts.neighbour):
            return ()
        pairs = zip(self.facts.neighbour[feature], self.facts.neighbour_cosine[feature], strict=True)
        return tuple((int(index), round(float(cosine), 4)) for index, cosine in pairs if index >= 0)

    def feature_facts(self, feature: int) -> FeatureFacts:
        """One feature's weight-side facts as a record."""
        f, words = self.facts, self.corpus.vocabulary

        def outputs(ids: np.ndarray, weights: np.ndarray) -> tuple[tuple[str, float], ...]:
            if not len(ids):
                return ()
            pairs = zip(ids[feature], weights[feature], strict=True)
            return tuple((words[int(i)], round(float(w), 4)) for i, w in pairs)

        return FeatureFacts(
            decoder_norm=round(float(f.decoder_norm[feature]), 5) if len(f.decoder_norm) else None,
            encoder_decoder_cosine=(
                round(float(f.encoder_decoder_cosine[feature]), 5) if len(f.encoder_decoder_cosine) else None
            ),
            neighbours=self.neighbours(feature),
            top_outputs=outputs(f.top_output, f.top_output_weight),
            bottom_outputs=outputs(f.bottom_output, f.bottom_output_weight),
        )


def free_bytes(folder: Path) -> int:
    """Bytes free on the disk that holds a folder, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
