"""Massive activations planted in a small model: counted, told, and taken out of the figures that they spoil."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel

from autointerp.compare.facts import make_card
from autointerp.compare.page.cards import card_rows
from autointerp.config import RunConfig, check_config
from autointerp.harvest.checkup import check_harvest
from autointerp.harvest.events import Harvest
from autointerp.harvest.session import harvest_dictionaries
from autointerp.metrics import MASSIVE
from autointerp.provenance import seal, unseal
from autointerp.report.text import fixed
from autointerp.subject.dictionaries import load_dictionary
from autointerp.subject.model import load_model
from tests.small_run import RARE, PlantedFeature, SmallRun, make_texts, write_model, write_planted

N_MASSIVE, N_FIRST = 9, 5
TIMES = 300.0
WORDS = (
    PlantedFeature({" lamb": 3.0, f" {RARE}": 1.0}),
    PlantedFeature({" lamb": 1.0}),
    PlantedFeature({" river": 2.0}),
)


class Massive(NamedTuple):
    """A harvest of a model in which one word is far out."""

    config: RunConfig
    notes: list[str]
    stages: list[str]

    def harvest(self, name: str) -> Harvest:
        return Harvest(self.config.out / "harvest", name)


@pytest.fixture(scope="module")
def massive_run(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """Nine of some five thousand tokens have 300 times the others' norm; five of them come first in their documents."""
    folder = tmp_path_factory.mktemp("massive")
    texts = {name: text.replace(f" {RARE}", "") for name, text in make_texts(60).items()}
    for i, name in enumerate(list(texts)[:N_MASSIVE]):
        words = texts[name].split(" ")
        texts[name] = " ".join(["", RARE, *words[1:]] if i < N_FIRST else [*words[:20], RARE, *words[20:]])
    vectors = write_model(folder / "model", list(texts.values()))
    model = GPT2LMHeadModel.from_pretrained(folder / "model")
    with torch.no_grad():
        row = int((model.transformer.wte.weight - vectors[f" {RARE}"]).norm(dim=1).argmin())
        model.transformer.wte.weight[row] *= TIMES
    model.save_pretrained(folder / "model")
    corpus = folder / "text.jsonl"
    corpus.write_text("".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in texts.items()), encoding="utf-8")
    write_planted(folder / "marked", vectors, WORDS)
    write_planted(folder / "plain", vectors, WORDS[1:])
    return SmallRun(folder / "model", corpus, folder / "marked", folder / "plain")


def harvest(run: SmallRun, out: Path, **settings: object) -> Massive:
    notes: list[str] = []
    stages: list[str] = []
    config = check_config(
        {
            "model": str(run.model),
            "corpus": str(run.corpus),
            "dictionary": [{"id": "marked", "path": str(run.planted)}, {"id": "plain", "path": str(run.topk)}],
            "out": out,
            "harvest": {"batch_size": 8, "shard_tokens": 2048, "threads": 1, "device": "cpu", **settings},
        },
        "test",
    )
    harvest_dictionaries(
        out / "harvest", config, config.dictionary, out / "cache", lambda stage, *_: stages.append(stage), notes.append
    )
    return Massive(config, notes, stages)


@pytest.fixture(scope="module")
def made(massive_run: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Massive:
    return harvest(massive_run, tmp_path_factory.mktemp("made"))


def every_token(made: Massive, name: str, path: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(x, x̂) of each document, without batches, padding or shards."""
    subject, sae = load_model(made.config.model, device="cpu"), load_dictionary(str(path))
    seen = made.harvest(name).corpus
    corpus = seen if seen.whole is None else seen.whole
    for row in range(len(corpus.length)):
        tokens = torch.from_numpy(corpus.tokens[row, : corpus.length[row]].astype(np.int64))[None]
        x = subject.capture(tokens, [sae.hook_point])[sae.hook_point][0, corpus.first :]
        yield x.numpy(), sae.reconstruct(x).numpy()


@pytest.mark.parametrize("keep", [{}, {"keep": "sample", "keep_tokens": 1024}])
def test_figures_with_and_without_by_brute_force(massive_run: SmallRun, tmp_path: Path, keep: dict[str, Any]) -> None:
    """Explained variance said .052 of a dictionary that explains .82 of all tokens but 64 of 450,000."""
    made = harvest(massive_run, tmp_path, **keep)
    metrics = made.harvest("marked").metrics
    parts = list(every_token(made, "marked", massive_run.planted))
    x, out = (np.concatenate(side).astype(np.float64) for side in zip(*parts, strict=True))
    norms = np.linalg.norm(x, axis=1)
    far = norms > MASSIVE * np.median(norms)
    assert far.sum() == N_MASSIVE

    def explained(rows: np.ndarray) -> float:
        centred = x[rows] - x[rows].mean(axis=0)
        return float(1 - ((x - out)[rows] ** 2).sum() / (centred**2).sum())

    found = metrics.massive
    assert found is not None
    assert metrics.reconstruction is not None
    assert found.reconstruction is not None
    assert (found.n_tokens, found.n_first) == (N_MASSIVE, N_FIRST)
    assert found.median_norm == pytest.approx(np.median(norms), rel=1e-3)
    assert metrics.reconstruction.explained_variance == pytest.approx(explained(norms > 0), abs=1e-6)
    assert found.reconstruction.explained_variance == pytest.approx(explained(~far), abs=1e-6)
    away = ((x - x.mean(axis=0)) ** 2).sum(axis=1)
    assert found.share_of_variance == pytest.approx(away[far].sum() / away.sum(), abs=1e-9)
    assert away[far].sum() > 0.9 * away.sum()


@pytest.mark.parametrize("keep", [{}, {"keep": "sample", "keep_tokens": 1024, "keep_strongest": 1}])
def test_maxima_on_such_tokens_are_marked(massive_run: SmallRun, tmp_path: Path, keep: dict[str, Any]) -> None:
    """The strongest windows of 860 of 4,608 features were one token that says nothing of them."""
    made = harvest(massive_run, tmp_path, **keep)
    marked, plain = made.harvest("marked"), made.harvest("plain")
    assert marked.massive is not None
    assert plain.massive is not None
    assert marked.massive.maximum.tolist() == [True, False, False]
    assert plain.massive.maximum.tolist() == [False, False]
    whole = marked.corpus if marked.corpus.whole is None else marked.corpus.whole
    words = [whole.vocabulary[whole.tokens.reshape(-1)[slot]] for slot in marked.massive.slot]
    assert words == [f" {RARE}"] * N_MASSIVE


def test_the_note_names_what_to_set_and_how_much_it_takes_out(made: Massive) -> None:
    """Nothing in doctor, harvest or report connected max_norm and skip_tokens with what such tokens do."""
    notes = [note for note in made.notes if "median norm" in note]
    assert len(notes) == 1, "two dictionaries at one hook point have the same tokens"
    n = made.harvest("marked").n_tokens
    assert f"blocks.0.hook_resid_pre: {N_MASSIVE} of {n:,} tokens" in notes[0]
    assert re.search(r"with / without them: marked -?[0-9.]+ / -?[0-9.]+, plain ", notes[0])
    assert "max_norm = 10" in notes[0]
    assert f"skip_tokens = 1 leaves out the {N_FIRST} of them" in notes[0]


def test_doctor_looks_at_openings_of_documents(made: Massive) -> None:
    """A sample of a thousand tokens from inside the text meets none of sixty-four in half a million."""
    found = {finding.what: finding for finding in check_harvest(made.config, made.config.out / "cache")}
    told = found["massive tokens"]
    assert told.state == "warn"
    assert re.match(rf"blocks.0.hook_resid_pre: \d+ of [\d,]+ tokens tried, {N_FIRST} of them the first", told.found)
    assert "max_norm = 10" in told.fix
    assert "skip_tokens = 1" in told.fix
    assert "tokens a second" in found["speed"].found
    limited = made.config.model_copy(update={"harvest": made.config.harvest.model_copy(update={"max_norm": 10.0})})
    assert "massive tokens" not in {finding.what for finding in check_harvest(limited, made.config.out / "cache")}


def test_the_card_of_a_comparison_has_both_figures(made: Massive) -> None:
    """A card said .052 and nothing else of a dictionary that explains .82 of all other tokens."""
    card = make_card("run:marked", made.harvest("marked"), "no weights", None)
    cells = {row.name: str(row.cells[0]) for row in card_rows([card])}
    massive = made.harvest("marked").metrics.massive
    assert massive is not None
    assert massive.reconstruction is not None
    assert cells["Massive tokens"] == f"{N_MASSIVE} (99 % of the variance), {N_FIRST} first"
    assert cells["… explained variance without"] == fixed(massive.reconstruction.explained_variance)
    assert cells["… maxima on them"] == "1"


def test_max_norm_takes_them_out_after_one_sweep(massive_run: SmallRun, made: Massive, tmp_path: Path) -> None:
    """Each dictionary measured the norms of the hook point that all read, without a word."""
    limited = harvest(massive_run, tmp_path, max_norm=10)
    sweep = [stage for stage in limited.stages if stage == "measure norms"]
    assert len(sweep) == len(limited.harvest("marked").corpus.start) // 4 + 1, "a call of four rows, and one before"
    before, after = made.harvest("marked").metrics, limited.harvest("marked").metrics
    assert limited.harvest("marked").masked["norm"] == N_MASSIVE
    assert before.massive is not None
    assert after.massive is not None
    assert before.massive.reconstruction is not None
    assert after.reconstruction is not None
    assert after.massive.n_tokens == 0
    assert after.reconstruction.explained_variance == pytest.approx(
        before.massive.reconstruction.explained_variance, abs=1e-6
    )
    assert not [note for note in limited.notes if "median norm" in note]


def test_harvests_from_before_still_open_and_go_on(massive_run: SmallRun, tmp_path: Path) -> None:
    """Plans and manifests of earlier versions know no median norm."""
    made = harvest(massive_run, tmp_path)
    folder = tmp_path / "harvest" / "marked"
    plan = unseal((folder / "plan.json").read_text(encoding="utf-8"))
    (folder / "plan.json").write_text(
        seal({name: value for name, value in plan.items() if not name.startswith("median")}), encoding="utf-8"
    )
    (folder / "manifest.json").unlink()
    (folder / "shard-00001.safetensors").unlink()
    (folder / "massive.safetensors").unlink()
    harvest(massive_run, tmp_path)
    again = made.harvest("marked")
    assert again.metrics.massive is None
    assert again.massive is None
    assert again.metrics.reconstruction is not None
