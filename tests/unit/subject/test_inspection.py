"""`inspect`: every fixture described from its files, and what is odd about them said."""

import json
from pathlib import Path

import pytest

from autointerp.errors import UsageError
from autointerp.subject.dictionaries import load_dictionary
from autointerp.subject.fit import check_fit
from autointerp.subject.inspection import inspect_dictionary
from autointerp.subject.model import Subject, load_model
from tests.unit.subject.test_agreement import CASES, FIXTURES, read_case
from tests.unit.subject.tiny import random_weights, write_family, write_saelens

CENTRED = {
    "sae_lens_version": "6.0.0",
    "hook_name": "blocks.1.hook_resid_post",
    "prepend_bos": False,
    "model_from_pretrained_kwargs": {"center_writing_weights": True},
}


@CASES
def test_every_fixture(folder: Path) -> None:
    case = read_case(folder)
    report = inspect_dictionary(case.path)
    assert (report.format, report.hook_point, report.d_in) == (case.format, case.hook_point, case.x.shape[1])
    assert report.d_sae == case.acts.shape[1]
    assert report.d_out == (case.x if case.out is None else case.out).shape[1]
    assert json.loads(report.model_dump_json())["format"] == case.format
    assert all(note.endswith(".") for note in report.notes)


def test_a_missing_hook_point_is_a_note() -> None:
    report = inspect_dictionary(FIXTURES / "openai" / "topk" / "checkpoint")
    assert report.hook_point is None
    assert any("--hook-point" in note for note in report.notes)
    assert (report.kind, report.scaling) == ("TopK, topk k=5", "layer_norm")


def test_transcoder_says_where_it_writes() -> None:
    report = inspect_dictionary(FIXTURES / "saelens" / "skip_transcoder" / "checkpoint")
    assert (report.hook_point, report.hook_out) == ("blocks.1.hook_resid_post", "blocks.1.hook_mlp_out")
    unsaid = inspect_dictionary(FIXTURES / "saelens" / "transcoder-layer_norm" / "checkpoint")
    assert unsaid.hook_out is None
    assert any("do not say where it writes" in note for note in unsaid.notes)


def test_gemma_scope_2_without_its_config(tmp_path: Path) -> None:
    """The folder's name says what the config would."""
    source = FIXTURES / "gemma-scope-2" / "transcoder-affine" / "checkpoint"
    file = next(source.rglob("params.safetensors"))
    folder = tmp_path / "transcoder" / "layer_3_width_16k_l0_small"
    folder.mkdir(parents=True)
    (folder / file.name).write_bytes(file.read_bytes())
    report = inspect_dictionary(folder)
    assert (report.hook_point, report.hook_out) == ("blocks.3.mlp.hook_in", "blocks.3.hook_mlp_out")


def test_inputs_rescaled_by_a_figure_that_is_not_there() -> None:
    report = inspect_dictionary(FIXTURES / "saelens" / "expected_average" / "checkpoint")
    assert any("runs unscaled" in note for note in report.notes)


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        inspect_dictionary(tmp_path / "none")


def test_centred_writing_weights(tmp_path: Path, subject: Subject) -> None:
    """No second model is needed: on LayerNorm models the centred stream is the plain one less its mean."""
    folder = write_saelens(tmp_path, random_weights(), metadata=CENTRED)
    assert inspect_dictionary(folder).center_input
    dictionary = load_dictionary(folder)
    assert any("mean is subtracted" in remark for remark in check_fit(subject, dictionary))
    assert not inspect_dictionary(folder).prepend_bos


def test_centring_is_the_callers_to_override(tmp_path: Path) -> None:
    folder = write_saelens(tmp_path, random_weights(), metadata=CENTRED)
    plain, centred = load_dictionary(folder, center_input=False), load_dictionary(folder)
    assert plain.weights_digest != centred.weights_digest


def test_centring_does_not_fit_rms_norms(tmp_path: Path) -> None:
    llama = load_model(write_family(tmp_path / "model", "llama"), "cpu")
    folder = write_saelens(tmp_path / "sae", random_weights(), metadata=CENTRED)
    with pytest.raises(UsageError, match="RMS norms"):
        check_fit(llama, load_dictionary(folder))
    assert check_fit(llama, load_dictionary(folder, center_input=False)) == []


def test_only_the_residual_stream_is_centred(tmp_path: Path) -> None:
    """Folding leaves the MLP's hidden layer as it is."""
    metadata = CENTRED | {"hook_name": "blocks.1.mlp.hook_post"}
    assert not inspect_dictionary(write_saelens(tmp_path, random_weights(), metadata=metadata)).center_input
