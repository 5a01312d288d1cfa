"""A whole pass against dense brute force, and what happens when it is cut, continued or refused."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float
from transformers import GPT2LMHeadModel

from autointerp.config import HarvestPart
from autointerp.errors import RunError, UsageError
from autointerp.harvest import run as harvest_run
from autointerp.harvest import stats as harvest_stats
from autointerp.harvest.arrays import map_arrays
from autointerp.harvest.events import Harvest
from autointerp.harvest.forecast import Forecast, forecast
from autointerp.harvest.session import PartWork, harvest_dictionaries
from autointerp.harvest.shards import Shard
from autointerp.provenance import digest_file
from autointerp.subject.dictionaries import load_dictionary
from autointerp.subject.model import Subject, load_model
from tests.small_run import DEAD, DENSE, N_DOCUMENT, RARELY, WORDS, SmallRun, write_saelens
from tests.unit.harvest.conftest import run_harvest, small_config


@pytest.fixture(scope="module")
def subject(small: SmallRun) -> Iterator[Subject]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load_model(small.model, device="cpu")
    torch.set_num_threads(before)


def dense(subject: Subject, path: Path, harvest: Harvest) -> Float[np.ndarray, "slot d_sae"]:
    """Activations of every slot, a document at a time, without batches, padding or sparse codes."""
    dictionary = load_dictionary(path)
    corpus = harvest.corpus
    table = np.zeros((corpus.n_row * corpus.context, dictionary.d_sae), np.float32)
    for row in range(corpus.n_row):
        length = int(corpus.length[row])
        tokens = torch.from_numpy(corpus.tokens[row, :length].astype(np.int64))[None]
        acts = dictionary.encode(subject.capture(tokens, [dictionary.hook_point])[dictionary.hook_point][0])
        first = row * corpus.context
        table[first + corpus.first : first + length] = acts[corpus.first :].numpy()
    return table


@pytest.mark.parametrize("name", ["planted", "topk"])
def test_events_are_the_dense_activations(small: SmallRun, harvested: Path, subject: Subject, name: str) -> None:
    """Batches, padding, the counting sort and fp16: none may lose, move or add an activation."""
    harvest = Harvest(harvested, name)
    table = dense(subject, getattr(small, name), harvest)
    for feature in range(harvest.spec.d_sae):
        events = harvest.read(feature)
        column = table[:, feature]
        assert events.slot.tolist() == np.flatnonzero(column).tolist()
        assert events.value == pytest.approx(column[events.slot], rel=2e-3, abs=1e-5)
        assert (np.diff(events.slot) > 0).all()


def test_planted_features_do_what_was_planted(planted: Harvest) -> None:
    """The base of all end-to-end tests: a feature fires on its word and nowhere else."""
    corpus = planted.corpus
    words = [corpus.vocabulary[t] for t in corpus.tokens.reshape(-1)]
    for feature, word in enumerate(WORDS):
        assert {words[slot] for slot in planted.read(feature).slot} == {f" {word}"}
    assert planted.feature_stats(DENSE).n_active == corpus.n_tokens
    assert planted.feature_stats(DEAD).n_active == 0
    assert 0 < planted.feature_stats(RARELY).n_active < 10


def test_the_corpus_is_the_text(small: SmallRun, planted: Harvest, subject: Subject) -> None:
    """Joined documents, a lost last token or BOS counted as text would shift every figure."""
    corpus = planted.corpus
    texts = [json.loads(line) for line in small.corpus.read_text(encoding="utf-8").splitlines()]
    assert list(corpus.sources) == [t["id"] for t in texts]
    assert len(corpus.sources) == N_DOCUMENT
    for number, text in enumerate(texts):
        ids = [int(t) for row in np.flatnonzero(corpus.source == number)
               for t in corpus.tokens[row, corpus.first : corpus.length[row]]]  # fmt: skip
        assert ids == subject.encode_text([text["text"]])[0]
    assert (corpus.tokens[:, 0] == subject.bos_token_id).all()
    assert corpus.n_tokens == int((corpus.length - corpus.first).sum())


@pytest.mark.parametrize("name", ["planted", "topk"])
def test_statistics_by_brute_force(harvested: Path, name: str) -> None:
    """Counts over shards, with numpy on all values at once."""
    harvest = Harvest(harvested, name)
    for feature in range(harvest.spec.d_sae):
        values = harvest.read(feature).value.astype(np.float64)
        stats = harvest.feature_stats(feature)
        assert (stats.n_active, stats.n_tokens) == (len(values), harvest.corpus.n_tokens)
        assert sum(stats.histogram) == len(values)
        if len(values):
            assert stats.max == values.max()
            assert stats.mean_active == pytest.approx(values.mean())
            assert stats.deciles == pytest.approx(np.quantile(values, np.arange(1, 10) / 10).tolist())
            edges = np.histogram(values, bins=len(stats.histogram), range=(0, values.max()))[0]
            assert list(stats.histogram) == edges.tolist()
            assert harvest.level_rule(feature)[1] == (len(np.unique(values)) < 10)
        else:
            assert (stats.max, stats.mean_active, stats.deciles) == (0.0, 0.0, ())


@pytest.mark.parametrize("name", ["planted", "topk"])
def test_features_with_many_events_have_the_same_statistics(
    harvested: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A feature active on all of a billion tokens is summed shard by shard, which must not show."""
    harvest = Harvest(harvested, name)
    shards = [Shard(path, harvest.corpus.context) for path in sorted((harvested / name).glob("shard-*"))]
    for block in (1, 500):
        monkeypatch.setattr(harvest_stats, "EVENTS_A_BLOCK", block)
        monkeypatch.setattr(harvest_stats, "EVENTS_AT_ONCE", block)
        again = harvest_stats.compute_stats(shards, harvest.spec.d_sae, harvest.corpus)
        for field, one, other in zip(again._fields, again, harvest.stats, strict=True):
            assert one == pytest.approx(np.array(other), rel=1e-9), field


def test_facts_by_brute_force(small: SmallRun, topk: Harvest, subject: Subject) -> None:
    """Cosines and logit weights from plain matrices; a transposed decoder would give neighbours too."""
    sae = load_dictionary(small.topk)
    decoder, encoder = sae.decoder_directions(), sae.encoder_directions()
    assert decoder is not None
    assert encoder is not None
    unit = (decoder / decoder.norm(dim=1, keepdim=True)).numpy()
    similar = unit @ unit.T
    np.fill_diagonal(similar, -2)
    for feature in range(sae.d_sae):
        found = topk.neighbours(feature)
        best = np.argsort(-similar[feature])[:20]
        assert [i for i, _ in found] == best.tolist()
        assert [c for _, c in found] == pytest.approx(similar[feature][best].tolist(), abs=1e-4)
    assert topk.facts.decoder_norm == pytest.approx(decoder.norm(dim=1).numpy(), rel=1e-5)
    cosine = torch.nn.functional.cosine_similarity(encoder, decoder, dim=1).numpy()
    assert topk.facts.encoder_decoder_cosine == pytest.approx(cosine, abs=1e-5)
    model = GPT2LMHeadModel.from_pretrained(small.model)
    gain, unembed = model.transformer.ln_f.weight.detach(), model.lm_head.weight.detach()
    logits = ((decoder - decoder.mean(dim=1, keepdim=True)) * gain) @ unembed.T
    top = topk.feature_facts(3).top_outputs
    assert [w for _, w in top] == pytest.approx(logits[3].topk(20).values.tolist(), abs=1e-3)
    assert top[0][0] == topk.corpus.vocabulary[int(logits[3].argmax())]
    bottom = topk.feature_facts(3).bottom_outputs
    assert [w for _, w in bottom] == pytest.approx(logits[3].topk(20, largest=False).values.tolist(), abs=1e-3)


def files(folder: Path) -> dict[str, str]:
    """Digests of all that must be byte-identical after any interruption."""
    return {
        str(path.relative_to(folder)): digest_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }


@pytest.mark.parametrize(
    "lost",
    [
        ["planted/manifest.json"],
        ["planted/manifest.json", "topk/manifest.json", "planted/shard-00001.safetensors"],
        ["planted/shard-00003.safetensors", "topk/shard-00000.safetensors"],
        ["topk/stats.safetensors"],
        ["_corpus/corpus.json", "_corpus/rows.safetensors", "planted/manifest.json", "planted/facts.safetensors"],
    ],
)
def test_whatever_was_lost_comes_back_to_the_byte(
    small: SmallRun, harvested: Path, tmp_path: Path, lost: list[str]
) -> None:
    """A resumed pass that batches otherwise gives other bytes; a deleted shard was never made again."""
    shutil.copytree(harvested, tmp_path / "harvest")
    before = files(tmp_path / "harvest")
    for name in lost:
        (tmp_path / "harvest" / name).unlink()
    run_harvest(small_config(small, tmp_path))
    assert files(tmp_path / "harvest") == before
    for name in ("planted", "topk"):
        assert (
            Harvest(tmp_path / "harvest", name).read(0).slot.tolist() == Harvest(harvested, name).read(0).slot.tolist()
        )


def test_two_dictionaries_in_one_pass_are_each_as_alone(small: SmallRun, harvested: Path, tmp_path: Path) -> None:
    """A shared forward pass must not change what a dictionary sees; adding one later gives the same bytes."""
    config = small_config(small, tmp_path)
    run_harvest(config.model_copy(update={"dictionary": config.dictionary[1:]}))
    alone = files(tmp_path / "harvest" / "topk")
    assert alone == files(harvested / "topk")
    run_harvest(config)
    assert files(tmp_path / "harvest") == files(harvested)


@pytest.mark.parametrize(("setting", "value"), [("threads", 2), ("shard_tokens", 4096)])
def test_a_resume_with_other_settings_names_the_choice(
    small: SmallRun, harvested: Path, tmp_path: Path, setting: str, value: int
) -> None:
    """Shards of two such settings in one harvest are no function of the configuration any more."""
    shutil.copytree(harvested, tmp_path / "harvest")
    (tmp_path / "harvest/planted/manifest.json").unlink()
    named = "shard_rows" if setting == "shard_tokens" else setting
    with pytest.raises(UsageError, match=f"was started with {named} = "):
        run_harvest(small_config(small, tmp_path, **{setting: value}))


def test_other_weights_under_the_same_id_are_refused(small: SmallRun, harvested: Path, tmp_path: Path) -> None:
    """Half of the shards from each of two dictionaries would be a dictionary that never existed."""
    shutil.copytree(harvested, tmp_path / "harvest")
    (tmp_path / "harvest/planted/manifest.json").unlink()
    config = small_config(small, tmp_path)
    swapped = config.dictionary[0].model_copy(update={"path": str(small.topk)})
    with pytest.raises(UsageError, match="was started with weights"):
        run_harvest(config.model_copy(update={"dictionary": (swapped,)}))


def test_a_damaged_plan_is_one_sentence(small: SmallRun, harvested: Path, tmp_path: Path) -> None:
    """A plan that cannot be read was a traceback."""
    shutil.copytree(harvested, tmp_path / "harvest")
    (tmp_path / "harvest/planted/manifest.json").unlink()
    (tmp_path / "harvest/planted/plan.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match=r"plan\.json is damaged"):
        run_harvest(small_config(small, tmp_path))


def test_too_little_disk_is_refused_before_the_pass(
    small: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills after hours leaves nothing to show; the forecast is from one batch."""
    monkeypatch.setattr(harvest_run, "free_bytes", lambda folder: 50_000)
    with pytest.raises(UsageError, match=r"needs about .* MB and the disk of .* free"):
        run_harvest(small_config(small, tmp_path))
    assert not list((tmp_path / "harvest").glob("*/shard-*"))


@pytest.mark.parametrize(("context", "rows"), [(32, 64), (64, 32)])
def test_on_a_cpu_a_batch_is_small_unless_told(
    small: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, context: int, rows: int
) -> None:
    """Batches of 32 rows ran at half the speed and took four times the memory."""
    monkeypatch.setattr(harvest_run, "free_bytes", lambda folder: 0)
    with pytest.raises(UsageError, match="free"):
        run_harvest(small_config(small, tmp_path, batch_size=None, context=context))
    assert json.loads((tmp_path / "harvest/planted/plan.json").read_text())["batch_size"] == rows


def test_the_forecast_counts_what_the_model_itself_takes(
    small: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It said 0.2 GB, and a batch of 32 rows then took 1.4 GB: the forward pass was left out."""
    whole = Subject.capture

    def hungry(self: Subject, tokens: torch.Tensor, hooks: list[str]) -> dict[str, torch.Tensor]:
        torch.ones(300_000_000, dtype=torch.uint8).sum()
        return whole(self, tokens, hooks)

    made: list[Forecast] = []

    def keep(*asked: Any) -> Forecast:
        made.append(forecast(*asked))
        raise UsageError("enough is known")

    monkeypatch.setattr(harvest_run, "forecast", keep)
    for capture in (whole, hungry):
        monkeypatch.setattr(Subject, "capture", capture)
        with pytest.raises(UsageError, match="enough"):
            run_harvest(small_config(small, tmp_path))
    assert made[1].memory_bytes - made[0].memory_bytes > 0.25e9


@pytest.mark.parametrize("keep", [{}, {"keep": "sample", "keep_tokens": 1024}])
def test_nan_on_the_way_stops_with_its_place(
    small: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: dict[str, Any]
) -> None:
    """Only a model that overflows on some text meets a NaN, perhaps where nothing is kept; finished shards stay."""
    whole = Subject.capture
    calls = iter(range(10_000))

    def poisoned(self: Subject, tokens: torch.Tensor, hooks: list[str]) -> dict[str, torch.Tensor]:
        captured = {name: acts.clone() for name, acts in whole(self, tokens, hooks).items()}
        if next(calls) > 8:
            captured["blocks.0.hook_resid_pre"][1, 2] = float("nan")
        return captured

    monkeypatch.setattr(Subject, "capture", poisoned)
    with pytest.raises(RunError, match=r"feature \d+ has the activation nan at position \d+ of shard-0000[1-9]"):
        run_harvest(small_config(small, tmp_path, **keep))
    finished = sorted((tmp_path / "harvest/planted").glob("shard-*"))
    assert finished
    assert all(np.isfinite(Shard(path, 64).events.read(0).value).all() for path in finished)
    assert not (tmp_path / "harvest/planted/manifest.json").exists()


class _SmallGpu:
    """Runs out of memory for more rows than it has room for."""

    def __init__(self, rows: int, spare: int = 0) -> None:
        self.rows, self.spare, self.whole, self.calls = rows, spare, Subject.capture, 0

    def capture(self, subject: Subject, tokens: torch.Tensor, hooks: list[str]) -> dict[str, torch.Tensor]:
        self.calls += 1
        if self.calls > self.spare and len(tokens) > self.rows:
            raise torch.cuda.OutOfMemoryError
        return self.whole(subject, tokens, hooks)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Subject, "capture", lambda s, tokens, hooks: self.capture(s, tokens, hooks))


@pytest.mark.parametrize("spare", [0, 1])
def test_out_of_memory_halves_the_batch_and_records_it(
    small: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spare: int
) -> None:
    """The disk check's own forward pass was outside the halving; and the record must let the same command resume."""
    _SmallGpu(rows=2, spare=spare).install(monkeypatch)
    config = small_config(small, tmp_path)
    folder = run_harvest(config)
    plan = json.loads((folder / "planted" / "plan.json").read_text(encoding="utf-8"))
    assert (plan["batch_size"], plan["batch_size_asked"]) == (2, 8)
    before = files(folder)
    (folder / "planted" / "manifest.json").unlink()
    (folder / "planted" / "shard-00002.safetensors").unlink()
    run_harvest(config)
    assert files(folder) == before


def test_out_of_memory_later_halves_the_batch_from_there_on(
    small: SmallRun, harvested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass of a night ended with advice that the run then refused; what was finished stays as it was made."""
    gpu = _SmallGpu(rows=7, spare=10)
    gpu.install(monkeypatch)
    folder = run_harvest(small_config(small, tmp_path))
    shards = sorted((folder / "planted").glob("shard-*.safetensors"))
    sizes = [map_arrays(shard)[1]["batch_size"] for shard in shards]
    assert sizes[0] == 8
    assert sizes[-1] == 4
    assert gpu.calls > gpu.spare
    for feature in range(len(WORDS)):
        one, other = (Harvest(root, "planted").read(feature) for root in (folder, harvested))
        assert one.slot.tolist() == other.slot.tolist()


def test_no_room_for_one_row_is_a_sentence(small: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be halved any more, and what is finished has to stay."""
    _SmallGpu(rows=0, spare=10).install(monkeypatch)
    with pytest.raises(UsageError, match=r"too little memory on the device for one row of 64 tokens; what is finished"):
        run_harvest(small_config(small, tmp_path))
    assert list(tmp_path.glob("harvest/*/shard-*.safetensors"))


def test_another_batch_size_goes_on_with_an_unfinished_harvest(
    small: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set lower by hand it was refused: "holds a run with [harvest] batch_size = 8, not 4"."""
    _SmallGpu(rows=0, spare=10).install(monkeypatch)
    with pytest.raises(UsageError):
        run_harvest(small_config(small, tmp_path))
    monkeypatch.undo()
    made = {shard: shard.stat().st_mtime_ns for shard in tmp_path.glob("harvest/*/shard-*.safetensors")}
    folder = run_harvest(small_config(small, tmp_path, batch_size=4))
    assert {shard: shard.stat().st_mtime_ns for shard in made} == made
    plan = json.loads((folder / "planted" / "plan.json").read_text(encoding="utf-8"))
    assert (plan["batch_size"], "batch_size_asked" in plan) == (4, False)


def test_a_dictionary_that_joins_a_halved_one_has_its_batch(
    small: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its plan said 8 while its shards were made with 2; alone, it was then out of memory with no way on."""
    _SmallGpu(rows=3).install(monkeypatch)
    config = small_config(small, tmp_path)
    monkeypatch.setattr(harvest_run, "_write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    for asked in (["topk"], ["planted", "topk"]):
        with pytest.raises(KeyboardInterrupt):
            run_harvest(config, asked)
    for name in ("planted", "topk"):
        plan = json.loads((tmp_path / "harvest" / name / "plan.json").read_text(encoding="utf-8"))
        assert (plan["batch_size"], plan["batch_size_asked"]) == (2, 8)


def test_out_of_memory_in_a_part_halves_its_own_batch(
    small: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its neighbours may have room for the whole one, so the plan that all share stays."""
    _SmallGpu(rows=2).install(monkeypatch)
    config = small_config(small, tmp_path)
    work = PartWork(HarvestPart(0, 2), contextlib.nullcontext)
    harvest_dictionaries(
        tmp_path / "harvest", config, config.dictionary, tmp_path / "cache", lambda *_: None, print, work
    )
    shards = sorted(tmp_path.glob("harvest/planted/shard-*.safetensors"))
    assert [map_arrays(shard)[1]["batch_size"] for shard in shards] == [2] * len(shards)
    plan = json.loads((tmp_path / "harvest/planted/plan.json").read_text(encoding="utf-8"))
    assert plan["batch_size"] == 8


def test_a_dictionary_that_does_not_fit_is_refused_before_tokenising(small: SmallRun, tmp_path: Path) -> None:
    """A wrong width found after the corpus was tokenised costs minutes to hours."""
    weight = torch.zeros(16, 2)
    tensors = {"W_enc": weight, "b_enc": torch.zeros(2), "W_dec": weight.T, "b_dec": torch.zeros(16)}
    write_saelens(tmp_path / "narrow", tensors, "standard")
    config = small_config(small, tmp_path)
    bad = config.dictionary[0].model_copy(update={"path": str(tmp_path / "narrow")})
    with pytest.raises(UsageError, match="reads width 16"):
        run_harvest(config.model_copy(update={"dictionary": (bad,)}))
    assert not (tmp_path / "harvest").exists()
