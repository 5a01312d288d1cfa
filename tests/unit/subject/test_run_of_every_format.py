"""Every format's example through the whole subject side: named, fitted to a model, captured, encoded, read out."""

from pathlib import Path

import pytest
import torch

from autointerp.subject.dictionaries import load_dictionary
from autointerp.subject.fit import check_fit
from autointerp.subject.model import Subject, load_model
from tests.unit.subject.test_agreement import FIXTURES, ONE_EACH, read_case
from tests.unit.subject.tiny import D_MODEL, make_gpt2, make_tokenizer

IDS = torch.tensor([[0, 5, 9, 70, 33, 12], [0, 12, 13, 14, 15, 8]])
MLP_WIDE = ("neel-1l/first-runs",)
"""Reads an MLP's hidden layer, which is wider here than its 16 inputs."""


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """Twenty layers: some formats' file names say layer 19."""
    folder = tmp_path_factory.mktemp("deep")
    tokenizer = make_tokenizer()
    make_gpt2(len(tokenizer), n_layer=20).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load_model(folder, "cpu")


CHOSEN = [FIXTURES / "neel-1l" / "named" if f"{f.parent.name}/{f.name}" in MLP_WIDE else f for f in ONE_EACH]


@pytest.mark.parametrize("folder", CHOSEN, ids=[folder.parent.name for folder in CHOSEN])
def test_one_of_each(folder: Path, deep: Subject) -> None:
    case = read_case(folder)
    dictionary = load_dictionary(case.path, width_at=deep.width_at, default_hook_point="blocks.1.hook_resid_post")
    assert all(remark.endswith(".") or "so " in remark for remark in check_fit(deep, dictionary))
    activations = deep.capture(IDS, [dictionary.hook_point])[dictionary.hook_point]
    code = dictionary.encode_sparse(activations.flatten(0, 1))
    assert bool(code.value.isfinite().all())
    assert int(code.row.max()) < IDS.numel()
    directions = dictionary.decoder_directions()
    assert directions is not None
    deep.check_hook_point(dictionary.hook_out)
    weights = deep.output_tokens(directions, dictionary.hook_out)
    assert weights is not None
    assert weights.shape == (dictionary.d_sae, deep.d_vocab)
    assert activations.shape[-1] == D_MODEL
