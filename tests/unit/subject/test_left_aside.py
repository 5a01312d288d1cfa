"""What a reader does not look at in a checkpoint's files is known to be harmless, told, or refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from autointerp.errors import UsageError
from autointerp.subject.dictionaries import load_dictionary
from tests.unit.subject.test_agreement import FIXTURES, GIVEN_HOOK, ONE_EACH, Case, read_case

ALL = [path.parent for path in sorted(FIXTURES.glob("*/*/case.json"))]


def config_of(case: Case) -> Path | None:
    folder = case.path if case.path.is_dir() else case.path.parent
    return next((file for file in sorted(folder.glob("*.json"))), None)


WITH_CONFIG = [folder for folder in ONE_EACH if config_of(read_case(folder)) is not None]


def copied(folder: Path, tmp_path: Path, **more: object) -> Path:
    """The checkpoint at a path of the same names, with keys put into its config, or its section `trainer`."""
    case = read_case(folder)
    inside = case.path.relative_to(folder)
    target = Path(shutil.copytree(folder, tmp_path / folder.parent.name / folder.name))
    file = config_of(read_case(target))
    assert file is not None
    values = json.loads(file.read_text())
    values.get("trainer", values).update(more)
    file.write_text(json.dumps(values))
    return target / inside


@pytest.mark.parametrize("folder", ALL, ids=[f"{folder.parent.name}/{folder.name}" for folder in ALL])
def test_what_the_libraries_themselves_write_is_known(folder: Path) -> None:
    """A note that stands at every dictionary is read at none."""
    notes = load_dictionary(read_case(folder).path, default_hook_point=GIVEN_HOOK).notes
    assert [note for note in notes if "not known here" in note or "not read here" in note] == []


@pytest.mark.parametrize("folder", WITH_CONFIG, ids=[folder.parent.name for folder in WITH_CONFIG])
def test_an_unknown_switch_that_is_on(folder: Path, tmp_path: Path) -> None:
    """sparsify's `gram_lookup` changes what is encoded, and was passed over without a word."""
    path = copied(folder, tmp_path, subtract_token_table=True)
    if folder.parent.name.startswith("dictionary-learning"):
        notes = load_dictionary(path, default_hook_point=GIVEN_HOOK).notes
        assert any("trainer.subtract_token_table = True" in note for note in notes)
        return
    with pytest.raises(UsageError, match="subtract_token_table is on, a switch that is not known here"):
        load_dictionary(path, default_hook_point=GIVEN_HOOK)


@pytest.mark.parametrize("folder", WITH_CONFIG, ids=[folder.parent.name for folder in WITH_CONFIG])
def test_unknown_settings_are_told_unless_they_are_off(folder: Path, tmp_path: Path) -> None:
    off: dict[str, object] = {"token_table": False, "shift": None, "gain": 0, "kind": "none", "tables": []}
    quiet = load_dictionary(copied(folder, tmp_path / "off", **off), default_hook_point=GIVEN_HOOK)
    assert [note for note in quiet.notes if "not known here" in note] == []
    noted = load_dictionary(copied(folder, tmp_path / "on", norm_factor=3.7), default_hook_point=GIVEN_HOOK)
    assert any("norm_factor = 3.7, which is not known here" in note for note in noted.notes)


def test_a_switch_of_circuit_tracers_yaml(tmp_path: Path) -> None:
    folder = next(folder for folder in ONE_EACH if folder.parent.name == "circuit-tracer")
    case = read_case(folder)
    target = Path(shutil.copytree(folder, tmp_path / "copy"))
    path = target / case.path.relative_to(folder)
    config = (path if path.is_dir() else path.parent) / "config.yaml"
    config.write_text("model_name: x\nfeature_input_hook: 'mlp.hook_in'  # where\ncentre_inputs: true\n")
    with pytest.raises(UsageError, match="centre_inputs is on"):
        load_dictionary(path, default_hook_point=GIVEN_HOOK)


def test_tensors_that_are_not_read(tmp_path: Path) -> None:
    """A skip connection whose switch is off, or a table beside the weights."""
    folder = FIXTURES / "sparsify" / "topk"
    target = Path(shutil.copytree(folder, tmp_path / "topk"))
    path = target / read_case(folder).path.relative_to(folder)
    file = path / "sae.safetensors"
    save_file(load_file(file) | {"gram_table": torch.ones(3), "zeros": torch.zeros(3)}, file)
    assert load_dictionary(path).notes == ("Its sae.safetensors also holds gram_table, which is not read here.",)


def test_positions_that_a_dictionary_was_trained_on(tmp_path: Path) -> None:
    folder = FIXTURES / "saelens" / "topk"
    path = copied(folder, tmp_path, metadata={"sae_lens_version": "6.5.0", "seqpos_slice": [1, None]})
    assert any("positions [1, None]" in note for note in load_dictionary(path, default_hook_point=GIVEN_HOOK).notes)
