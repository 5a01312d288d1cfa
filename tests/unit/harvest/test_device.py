"""Every path through torch on a pretended device: what is harvested there is what is harvested on the CPU."""

import contextlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel

from autointerp.config import HarvestPart, RunConfig, check_config
from autointerp.errors import RunError, UsageError
from autointerp.harvest import session
from autointerp.harvest.checkup import check_harvest
from autointerp.harvest.encode import Encoded
from autointerp.harvest.events import Harvest
from autointerp.harvest.session import PartWork, harvest_dictionaries
from autointerp.subject import model as model_module
from autointerp.subject.model import Subject
from autointerp.subject.sae import Sae
from tests.device import Machine, pretended
from tests.every_dictionary import every_dictionary
from tests.small_run import SmallRun, make_texts
from tests.unit.harvest.conftest import run_harvest

Configure = Callable[..., RunConfig]
HARD = {
    "pack": True,
    "keep": "sample",
    "keep_tokens": 1024,
    "keep_strongest": 2,
    "max_norm": 1.05,
    "skip_tokens": 2,
    "special_tokens": True,
}


@pytest.fixture(scope="module")
def few(small: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Configure:
    """Makes a configuration over a few documents of unlike lengths, with some of all dictionaries or every one."""
    root = tmp_path_factory.mktemp("few")
    words = [text.split() for text in make_texts(24).values()]
    lines = [json.dumps({"text": " ".join(some[: 20 + 9 * i % 60])}) + "\n" for i, some in enumerate(words)]
    (root / "text.jsonl").write_text("".join(lines), encoding="utf-8")
    tables = every_dictionary(small, root / "dictionaries")

    def configure(out: Path, names: Sequence[str] = (), **harvest: object) -> RunConfig:
        asked = [table for table in tables if not names or table["id"] in names]
        plain = {"device": "cpu", "dtype": "float32", "threads": 1}
        settings = {**plain, "batch_size": 4, "shard_tokens": 1024, "loss_tokens": 120}
        return check_config(
            {"model": str(small.model), "corpus": str(root / "text.jsonl"), "dictionary": asked, "out": out,
             "harvest": {**settings, **harvest}},
            "test",
        )  # fmt: skip

    return configure


def figures(harvest: Harvest) -> dict[str, float]:
    """Every metric by its path."""
    found: dict[str, float] = {}

    def walk(values: dict[str, Any], path: str) -> None:
        for name, value in values.items():
            if isinstance(value, dict):
                walk(value, f"{path}{name}.")
            elif value is not None and name != "median_norm":  # of one batch, whatever its size
                found[path + name] = value

    walk(harvest.metrics.model_dump(), "")
    return found


def alike(one: Path, other: Path, ids: Sequence[str]) -> None:
    """Both harvests hold the same events, facts and metrics of each dictionary."""
    for name in ids:
        a, b = Harvest(one, name), Harvest(other, name)
        assert figures(b) == pytest.approx(figures(a), rel=1e-4), name  # Apple's devices have no float64
        for field, x, y in zip(a.facts._fields, a.facts, b.facts, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6, err_msg=f"{name} {field}")
        for feature in range(a.spec.d_sae):
            here, there = a.read(feature), b.read(feature)
            np.testing.assert_array_equal(here.slot, there.slot, err_msg=f"{name} {feature}")
            np.testing.assert_array_equal(here.value, there.value, err_msg=f"{name} {feature}")


@pytest.fixture(scope="module")
def of_all(few: Configure, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every dictionary on the CPU; not to be written to."""
    return run_harvest(few(tmp_path_factory.mktemp("of-all")))


@pytest.mark.parametrize("device", ["cuda:1", "mps"])
def test_every_dictionary_is_harvested_as_on_the_cpu(few: Configure, of_all: Path, tmp_path: Path, device: str) -> None:
    """random@ met its dictionary on the CPU; on the second card events were read before they had arrived."""
    config = few(tmp_path, device=device)
    with pretended(0 if device == "mps" else 2, mps=device == "mps") as machine:
        folder = run_harvest(config)
    assert machine.highest[device if device != "mps" else "mps:0"] > 0
    assert not machine.highest["cuda:0"], "a tensor on the card that was not asked for"
    alike(of_all, folder, [d.id for d in config.dictionary])
    silent = [d.id for d in config.dictionary if not Harvest(of_all, d.id).metrics.l0]
    assert not silent, "nothing was compared of these"


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_everything_that_can_be_set_is_as_on_the_cpu(few: Configure, tmp_path: Path, device: str) -> None:
    """Packed rows, a kept sample and masks by place, token and norm, each with tensors of its own."""
    names = ["topk", "abstopk", "jumpskip", "random", "tails"]
    here = run_harvest(few(tmp_path / "cpu", names, **HARD))
    with pretended(device == "cuda", mps=device == "mps"):
        there = run_harvest(few(tmp_path / "device", names, device=device, **HARD))
    alike(here, there, names)


def test_auto_is_bfloat16_on_cuda_with_tensor_cores_for_the_encoder(few: Configure, tmp_path: Path) -> None:
    """float32 by default took five times as long; the plan says what shards were made with, and a resume goes on so."""
    names = ["topk", "jump"]
    here = run_harvest(few(tmp_path / "cpu", names, dtype="bfloat16"))
    with pretended() as machine:
        there = run_harvest(few(tmp_path / "device", names, device="cuda", dtype="auto"))
        plan = json.loads((there / "topk/plan.json").read_text(encoding="utf-8"))
        assert [plan[key] for key in ("device", "dtype", "precision", "dense_limit")] == [
            "cuda", "bfloat16", "tf32", 2**29,
        ]  # fmt: skip
        assert machine.products["tf32"] > 0
        (there / "topk/manifest.json").unlink()
        machine.bfloat16 = False
        run_harvest(few(tmp_path / "device", names, device="cuda:0", dtype="auto"))
        assert machine.products["ieee"] == 0, "a product of a float32 model's encoder"
    alike(here, there, names)


def test_a_card_without_bfloat16_and_a_float32_model_keep_all_bits(few: Configure, tmp_path: Path) -> None:
    """TF32 under a float32 model would be a coarser answer than was asked for, in silence."""
    with pretended() as machine:
        machine.bfloat16 = False
        folder = run_harvest(few(tmp_path, ["jump"], device="cuda", dtype="auto", loss_tokens=0))
    plan = json.loads((folder / "jump/plan.json").read_text(encoding="utf-8"))
    assert (plan["dtype"], "precision" in plan) == ("float32", False)
    assert machine.products["ieee"] > 0
    assert machine.products["tf32"] == 0


class Starved:
    """A function that gets no memory for calls of more than `most` things."""

    def __init__(self, machine: Machine, whole: Callable[..., Any], argument: int, most: int) -> None:
        self.machine, self.whole, self.argument, self.most, self.refused = machine, whole, argument, most, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.argument < len(args) and len(args[self.argument]) <= self.most:
            return self.whole(*args, **kwargs)
        self.refused += 1
        with self.machine.full():
            return self.whole(*args, **kwargs)


def starve(monkeypatch: pytest.MonkeyPatch, machine: Machine, where: Any, name: str, most: int, nth: int) -> Starved:
    """Replace a function or method by its starved self."""
    starved = Starved(machine, getattr(where, name), nth, most)
    monkeypatch.setattr(where, name, lambda *args, **kwargs: starved(*args, **kwargs))
    return starved


CUBLAS = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


@pytest.mark.parametrize(
    ("where", "name", "argument", "most", "error"),
    [
        (Subject, "capture", 1, 1, torch.OutOfMemoryError("CUDA out of memory.")),
        (Subject, "capture", 1, 2, CUBLAS),
        (Sae, "encode_sparse", 1, 90, RuntimeError("CUDA error: out of memory")),
        (Subject, "unembed", 1, 4, torch.OutOfMemoryError("CUDA out of memory.")),
        (Subject, "output_tokens", 1, 5, torch.OutOfMemoryError("CUDA out of memory.")),
    ],
)
def test_work_that_does_not_fit_is_done_in_smaller_pieces(
    few: Configure, of_all: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    where: Any, name: str, argument: int, most: int, error: Exception,
) -> None:  # fmt: skip
    """Losses and facts ended a night's pass in a traceback, again and again; cuBLAS's own words were not known."""
    with pretended() as machine:
        machine.out_of_memory = lambda: error
        starved = starve(monkeypatch, machine, where, name, most, argument)
        folder = run_harvest(few(tmp_path, ["topk"], device="cuda"))
    assert starved.refused
    alike(of_all, folder, ["topk"])


@pytest.mark.parametrize(
    ("where", "name", "says"),
    [
        (model_module, "open_model", "for the model .* bfloat16"),
        (Sae, "to", "for the dictionary topk"),
        (session, "draw_control", "for random directions like topk"),
        (Subject, "final_states", "for the losses on a document of .* what is finished stays.* loss_tokens = 0"),
    ],
)
def test_what_cannot_be_smaller_is_a_sentence_and_the_run_goes_on(
    few: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, says: str
) -> None:
    """Each of these was a traceback, and what the message advised was refused."""
    config = few(tmp_path, ["topk", "random"], device="cuda")
    with pretended() as machine:
        starve(monkeypatch, machine, where, name, 0, 99)
        with pytest.raises(UsageError, match=says):
            run_harvest(config)
        if name != "final_states":
            monkeypatch.undo()
        folder = run_harvest(few(tmp_path, ["topk", "random"], device="cuda", loss_tokens=0))
    assert Harvest(folder, "random").metrics.loss is None


def test_one_model_at_a_time_and_nothing_is_kept(
    few: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A redrawn control's model was loaded beside the first one and its dictionaries: 21 GB for Gemma-2-2B."""
    held: list[int] = []
    whole = model_module.load_model
    with pretended() as machine:

        def load(*args: Any, **kwargs: Any) -> Subject:
            held.append(machine.allocated["cuda:0"])
            return whole(*args, **kwargs)

        monkeypatch.setattr(session, "load_model", load)
        run_harvest(few(tmp_path, ["topk", "redrawn"], device="cuda", loss_tokens=0))
        assert held == [0, 0]
        assert machine.allocated["cuda:0"] == 0
        assert machine.emptied == 2, "the cache stayed while a language model on the same card was asked"


def test_a_model_that_leaves_the_range_of_float16_is_told_with_max_norm_too(
    few: Configure, small: SmallRun, tmp_path: Path
) -> None:
    """The median norm was NaN and could not be written into the plan: a traceback from its JSON."""
    model = GPT2LMHeadModel.from_pretrained(small.model)
    with torch.no_grad():
        model.transformer.wte.weight[:, 5] += 4e4
        model.transformer.wpe.weight[:, 5] += 4e4
    model.save_pretrained(tmp_path / "large")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(small.model / file, tmp_path / "large" / file)
    config = few(tmp_path / "run", ["relu"], dtype="float16", max_norm=10.0)
    with pytest.raises(RunError, match="has the activation nan"):
        run_harvest(config.model_copy(update={"model": str(tmp_path / "large")}))


def test_copies_belong_to_their_own_device() -> None:
    """An event of the current device was over at once, and the host read what had not arrived."""
    arrays = [torch.arange(4), torch.arange(4), torch.ones(4), torch.zeros(4, dtype=torch.bool)]
    arrays += [torch.ones(2, 4, dtype=torch.float64), torch.ones(3), torch.zeros(4, dtype=torch.bool), torch.ones(3)]
    with pretended(2) as machine:
        there = [array.to("cuda:1") for array in arrays]
        assert machine.current == 0
        events = Encoded(np.arange(4, dtype=np.uint32), there).collect()
    assert events.feature.tolist() == [0, 1, 2, 3]
    assert events.value.tolist() == [1.0] * 4


def test_doctor_looks_at_the_runs_own_device(few: Configure, tmp_path: Path) -> None:
    """It loaded on cuda:0 whatever was asked for, and said ok to a card that is not there."""
    with pretended(2) as machine:
        findings = check_harvest(few(tmp_path, ["topk", "random", "tails"], device="cuda:1"), tmp_path / "cache")
        assert {finding.state for finding in findings} <= {"ok", "warn"}
        assert findings[0].found == "cuda:1: pretended cuda:1"
        assert machine.highest["cuda:1"] > 0
        assert machine.highest["cuda:0"] == 0
        missing = check_harvest(few(tmp_path, ["topk"], device="cuda:5"), tmp_path / "cache")
        assert [(finding.state, finding.what) for finding in missing] == [("fail", "device")]
        machine.limit = 2_500_000
        short = check_harvest(few(tmp_path, ["topk"], device="cuda"), tmp_path / "cache")
        assert any(f.state == "fail" and "too little memory on the device" in f.found for f in short), short


def test_parts_on_two_cards_are_one_harvest(few: Configure, of_all: Path, tmp_path: Path) -> None:
    """The second card's part was refused: the harvest had been "started with device = 'cuda:0', not 'cuda:1'"."""
    with pretended(2) as machine:
        for number in range(2):
            config = few(tmp_path, ["topk", "random"], device=f"cuda:{number}")
            work = PartWork(HarvestPart(number, 2), contextlib.nullcontext)
            harvest_dictionaries(
                tmp_path / "harvest", config, config.dictionary, tmp_path / "cache", lambda *_: None, print, work
            )
        folder = run_harvest(few(tmp_path, ["topk", "random"], device="cuda"))
        assert machine.highest["cuda:1"] > 0
    alike(of_all, folder, ["topk", "random"])
