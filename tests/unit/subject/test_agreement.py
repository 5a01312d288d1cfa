"""Every format's reader against what the real library, or the documented formula, made of the same files.

The cases lie in `tests/fixtures/FORMAT/NAME/`; the scripts that made them are in `tests/fixtures/build/`.
"""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from autointerp.errors import UsageError
from autointerp.subject.codes import densify
from autointerp.subject.dictionaries import Dictionary, load_dictionary
from autointerp.subject.loaders.checkpoint import Checkpoint
from autointerp.subject.loaders.table import LOADERS, find_format

FIXTURES = Path(__file__).parents[2] / "fixtures"
GIVEN_HOOK = "blocks.0.hook_resid_pre"
FORMATS = [name for name in LOADERS if name != "dictionary-learning-stored"]
"""All that have files of their own."""


class Case(NamedTuple):
    """One fixture."""

    path: Path
    """What a user would name."""
    format: str
    hook_point: str | None
    exact: bool
    """All arithmetic is on small whole numbers, so sums are exact and thresholds are met exactly."""
    ties: bool
    """Equal values compete for the last places; which of them wins is each library's own choice."""
    x: Tensor
    acts: Tensor
    out: Tensor | None


def read_case(folder: Path) -> Case:
    about = json.loads((folder / "case.json").read_text())
    expected = load_file(folder / "expected.safetensors")
    return Case(
        folder / "checkpoint" / about.get("path", ""),
        about["format"],
        about["hook_point"],
        about.get("exact", False),
        about.get("ties", False),
        expected["x"],
        expected["acts"],
        expected.get("out"),
    )


FOLDERS = sorted(file.parent for file in FIXTURES.glob("*/*/case.json"))
IDS = [f"{folder.parent.name}/{folder.name}" for folder in FOLDERS]
CASES = pytest.mark.parametrize("folder", FOLDERS, ids=IDS)


def load(case: Case) -> Dictionary:
    return load_dictionary(case.path, default_hook_point=GIVEN_HOOK)


def assert_agrees(ours: Tensor, theirs: Tensor) -> None:
    worst = ((ours - theirs).abs() / theirs.abs().clamp_min(1.0)).max().item()
    assert worst <= 1e-5


def test_every_format_has_a_case_and_an_edge() -> None:
    formats = {folder.parent.name for folder in FOLDERS}
    assert formats == set(FORMATS)
    edges = {folder.parent.name for folder in FOLDERS if "edge" in folder.name}
    assert edges == formats - {"directions"}


def test_dictionary_learning_at_the_scale_it_was_stored_with() -> None:
    """Its library folds decoder norms into activations on loading, SAELens does not; reconstructions are equal."""
    case = read_case(FIXTURES / "dictionary-learning" / "AutoEncoder")
    stored = load_dictionary(case.path, format="dictionary-learning-stored")
    tensors = torch.load(case.path / "ae.pt", weights_only=True)
    pre = (case.x - tensors["bias"]) @ tensors["encoder.weight"].T + tensors["encoder.bias"]
    assert_agrees(stored.encode(case.x), pre.clamp(min=0))
    assert case.out is not None
    assert_agrees(stored.reconstruct(case.x), case.out)
    assert_agrees(case.acts, pre.clamp(min=0) * tensors["decoder.weight"].norm(dim=0))


@CASES
def test_format_is_found_from_files_alone(folder: Path) -> None:
    case = read_case(folder)
    assert find_format(Checkpoint(case.path)) == case.format


@CASES
def test_relative_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file named relative to the working folder must not be looked for inside itself."""
    monkeypatch.chdir(FIXTURES)
    case = read_case(folder)
    relative = case.path.relative_to(FIXTURES)
    assert load_dictionary(relative, default_hook_point=GIVEN_HOOK).weights_digest == load(case).weights_digest


@CASES
def test_hook_point(folder: Path) -> None:
    case = read_case(folder)
    assert load(case).hook_point == (case.hook_point or GIVEN_HOOK)


@CASES
def test_activations(folder: Path) -> None:
    case = read_case(folder)
    ours = load(case).encode(case.x)
    if case.ties:
        assert_agrees(ours.sort(dim=1).values, case.acts.sort(dim=1).values)
        return
    assert_agrees(ours, case.acts)
    assert torch.equal(ours != 0, case.acts != 0)
    if case.exact:
        assert torch.equal(ours, case.acts)


@CASES
def test_sparse_code_is_the_dense_one(folder: Path) -> None:
    case = read_case(folder)
    dictionary = load(case)
    code = dictionary.encode_sparse(case.x)
    assert torch.equal(densify(code, len(case.x), dictionary.d_sae), dictionary.encode(case.x).float())


@CASES
def test_reconstruction(folder: Path) -> None:
    case = read_case(folder)
    dictionary = load(case)
    if case.out is None:
        with pytest.raises(UsageError, match=r"encodes|no decoder"):
            dictionary.reconstruct(case.x)
        return
    assert_agrees(dictionary.decode(case.acts, case.x), case.out)
    if not case.ties:
        assert_agrees(dictionary.reconstruct(case.x), case.out)


@CASES
def test_decoder_and_encoder_directions_have_their_shapes(folder: Path) -> None:
    dictionary = load(read_case(folder))
    decoder, encoder = dictionary.decoder_directions(), dictionary.encoder_directions()
    assert decoder is not None
    assert encoder is not None
    assert len(decoder) == dictionary.d_sae
    assert encoder.shape == (dictionary.d_sae, dictionary.d_in)


def weights_file(path: Path) -> Path:
    if path.is_file():
        return path
    return next(file for file in sorted(path.rglob("*")) if file.suffix in (".safetensors", ".npz", ".pt", ".pth"))


def read_tensors(file: Path) -> dict[str, object]:
    if file.suffix == ".npz":
        with np.load(file) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    return dict(load_file(file)) if file.suffix == ".safetensors" else dict(torch.load(file, weights_only=True))


def write_tensors(file: Path, tensors: dict[str, object]) -> None:
    if file.suffix == ".npz":
        arrays: dict[str, Any] = {name: np.asarray(tensor) for name, tensor in tensors.items()}
        np.savez(file, **arrays)
    elif file.suffix == ".safetensors":
        save_file({name: t.contiguous() for name, t in tensors.items() if isinstance(t, Tensor)}, file)
    else:
        torch.save(tensors, file)


def matrices(tensors: dict[str, object]) -> list[str]:
    return [name for name, tensor in tensors.items() if isinstance(tensor, Tensor) and tensor.ndim >= 2]


ONE_EACH = [next(folder for folder in FOLDERS if folder.parent.name == name) for name in FORMATS]
DAMAGED = pytest.mark.parametrize("folder", ONE_EACH, ids=FORMATS)


@pytest.fixture
def damaged(folder: Path, tmp_path: Path) -> Path:
    """A copy to damage, under the folder names that some formats are read by."""
    case = read_case(folder)
    copy = Path(shutil.copytree(folder / "checkpoint", tmp_path / "checkpoint"))
    return copy / case.path.relative_to(folder / "checkpoint")


@DAMAGED
def test_nan_names_its_tensor(folder: Path, damaged: Path) -> None:
    file = weights_file(damaged)
    tensors = read_tensors(file)
    name = matrices(tensors)[0]
    tensor = tensors[name]
    assert isinstance(tensor, Tensor)
    tensor.view(-1)[5] = float("nan")
    write_tensors(file, tensors)
    with pytest.raises(UsageError, match=f"{name} holds NaN"):
        load_dictionary(damaged, format=folder.parent.name, default_hook_point=GIVEN_HOOK)


@DAMAGED
def test_wrong_shape_names_its_tensor(folder: Path, damaged: Path) -> None:
    file = weights_file(damaged)
    tensors = read_tensors(file)
    name = matrices(tensors)[0]
    tensor = tensors[name]
    assert isinstance(tensor, Tensor)
    tensors[name] = tensor.flatten() if folder.parent.name == "directions" else tensor[:-1, :-1].clone()
    write_tensors(file, tensors)
    with pytest.raises(UsageError, match=name.replace(".", r"\.")):
        load_dictionary(damaged, format=folder.parent.name, default_hook_point=GIVEN_HOOK)


@DAMAGED
def test_truncated_file(folder: Path, damaged: Path) -> None:
    file = weights_file(damaged)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(UsageError, match=r"cannot be read|refused"):
        load_dictionary(damaged, format=folder.parent.name, default_hook_point=GIVEN_HOOK)
