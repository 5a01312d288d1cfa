"""Documents in one row: the activations that each has alone, or a refusal."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from autointerp.errors import UsageError
from autointerp.subject.model import Subject, load_model
from autointerp.subject.packing import check_packing, packed_inputs
from tests.unit.subject.tiny import N_CTX, write_family

HOOKS = ["blocks.0.attn.hook_z", "blocks.1.hook_resid_post"]
LENGTHS = ((5, 1, 9, 7), (20, 12), (1, 1, 1))


@pytest.fixture(scope="module", params=["gpt2", "gpt-neox", "llama", "gemma-2"])
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = tmp_path_factory.mktemp("packing") / request.param
    return load_model(write_family(folder, request.param), device="cpu")


def test_positions_and_masks_by_hand() -> None:
    """Positions begin anew, also in padding; a place sees its own document up to itself, and at least itself."""
    inputs = packed_inputs(torch.tensor([[0, 0, 1, 1, 1, -1, -1]]))
    assert inputs["position_ids"].tolist() == [[0, 1, 0, 1, 2, 0, 1]]
    seen = [[int(i) for i in row.nonzero()] for row in inputs["attention_mask"][0, 0]]
    assert seen == [[0], [0, 1], [2], [2, 3], [2, 3, 4], [5], [5, 6]]


def test_packed_documents_are_what_they_are_alone(subject: Subject) -> None:
    """One token seen across a border, or one position off, moves every activation of the later documents."""
    draw = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, subject.d_vocab, (len(LENGTHS), N_CTX), generator=draw)
    documents = torch.full(tokens.shape, -1)
    for row, lengths in enumerate(LENGTHS):
        whole = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
        documents[row, : len(whole)] = whole
    packed = subject.capture(tokens, HOOKS, documents)
    for row, lengths in enumerate(LENGTHS):
        ends = torch.tensor(lengths).cumsum(0).tolist()
        for start, end in zip([0, *ends], ends, strict=False):
            alone = subject.capture(tokens[row : row + 1, start:end], HOOKS)
            for hook in HOOKS:
                torch.testing.assert_close(packed[hook][row, start:end], alone[hook][0], atol=1e-5, rtol=1e-5)


def test_a_model_that_keeps_documents_apart_is_taken(subject: Subject) -> None:
    """The trial itself must not refuse what works."""
    check_packing(subject, HOOKS, N_CTX)


class Leaking:
    """A subject that leaves out part of what it is given."""

    def __init__(self, subject: Subject, kept: Sequence[str]) -> None:
        self.name, self.d_vocab, self.device, self.dtype = "leaky", subject.d_vocab, subject.device, subject.dtype
        self._subject, self._kept = subject, kept

    def capture(
        self, token_ids: torch.Tensor, hook_points: Sequence[str], documents: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        inputs = {} if documents is None else packed_inputs(documents)
        given = {key: value for key, value in inputs.items() if key in self._kept}
        if "position_ids" in given and "attention_mask" not in given:  # else the model makes a mask of the positions
            given["attention_mask"] = torch.ones(inputs["attention_mask"].shape[2:], dtype=torch.bool).tril()[
                None, None
            ]
        return {name: acts.flatten(2) for name, acts in self._subject._run(token_ids, hook_points, given).items()}


@pytest.mark.parametrize("kept", [[], ["position_ids"], ["attention_mask"]])
def test_a_model_that_lets_documents_see_each_other_is_refused(subject: Subject, kept: Sequence[str]) -> None:
    """A model that ignores the mask gives plausible activations of the wrong text."""
    if kept == ["attention_mask"] and "rotary" in str(subject._bridge.original_model).lower():
        pytest.skip("rotary positions are relative: within one document nothing changes")
    with pytest.raises(UsageError, match=r"leaky cannot keep documents in one row apart; set \[harvest\] pack = false"):
        check_packing(Leaking(subject, kept), HOOKS, N_CTX)


def test_attention_windows_shorter_than_a_row_are_refused(tmp_path: Path) -> None:
    """A mask that is given replaces the model's own, and with it the window of its local layers."""
    folder = write_family(tmp_path / "gemma-2", "gemma-2")
    config = (folder / "config.json").read_text(encoding="utf-8")
    (folder / "config.json").write_text(
        config.replace('"sliding_window": 4096', '"sliding_window": 6'), encoding="utf-8"
    )
    with pytest.raises(UsageError, match="cannot keep documents in one row apart"):
        check_packing(load_model(folder, device="cpu"), HOOKS, N_CTX)
