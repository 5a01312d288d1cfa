"""Loading what a user names, and every way in which it can be wrong."""

import json
from pathlib import Path

import pytest
import torch

from autointerp.errors import UsageError
from autointerp.subject.dictionaries import NEURON_K, load_dictionary
from autointerp.subject.fit import check_fit
from autointerp.subject.model import Subject
from tests.unit.subject.tiny import random_weights, write_saelens

HOOK = "blocks.1.hook_resid_post"


def test_saelens_folder(tmp_path: Path) -> None:
    weights = random_weights()
    dictionary = load_dictionary(write_saelens(tmp_path, weights, architecture="topk", k=4))
    assert (dictionary.d_in, dictionary.d_sae, dictionary.kind) == (16, 64, "topk k=4")
    assert (dictionary.hook_point, dictionary.prepend_bos, dictionary.signed) == (HOOK, True, False)
    x = torch.randn(10, 16)
    pre = (x - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"]
    values, index = pre.topk(4, dim=1)
    expected = torch.zeros(10, 64).scatter(1, index, values.relu())
    torch.testing.assert_close(dictionary.encode(x), expected, atol=1e-5, rtol=1e-5)


def test_decoder_norm_is_folded_into_the_weights(tmp_path: Path) -> None:
    """The library ranks pre-activations times the decoder norm and divides by it when it decodes."""
    weights = random_weights()
    dictionary = load_dictionary(
        write_saelens(tmp_path, weights, architecture="topk", k=4, rescale_acts_by_decoder_norm=True)
    )
    x = torch.randn(10, 16)
    norm = weights["W_dec"].norm(dim=1)
    pre = ((x - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"]) * norm
    values, index = pre.topk(4, dim=1)
    acts = torch.zeros(10, 64).scatter(1, index, values.relu())
    torch.testing.assert_close(dictionary.encode(x), acts, atol=1e-4, rtol=1e-5)
    expected = (acts / norm) @ weights["W_dec"] + weights["b_dec"]
    torch.testing.assert_close(dictionary.reconstruct(x), expected, atol=1e-4, rtol=1e-5)


def test_hook_point_of_the_caller_serves_where_files_name_none(tmp_path: Path) -> None:
    folder = write_saelens(tmp_path, random_weights(), metadata={})
    with pytest.raises(UsageError, match="give its hook point"):
        load_dictionary(folder)
    assert load_dictionary(folder, hook_point="blocks.0.hook_mlp_out").hook_point == "blocks.0.hook_mlp_out"
    assert load_dictionary(folder, default_hook_point="blocks.0.hook_mlp_out").hook_point == "blocks.0.hook_mlp_out"


def test_the_callers_hook_point_wins_over_the_files(tmp_path: Path) -> None:
    """It was ignored, so that a wrong or foreign name in a file could not be mended in a configuration."""
    folder = write_saelens(tmp_path, random_weights())
    dictionary = load_dictionary(folder, hook_point="blocks.0.mlp.hook_out")
    assert dictionary.hook_point == dictionary.hook_out == "blocks.0.mlp.hook_out"
    assert any(f"say that it reads at {HOOK}; it reads at blocks.0.mlp.hook_out" in note for note in dictionary.notes)
    assert load_dictionary(folder, hook_point=HOOK).notes == load_dictionary(folder).notes == ()


def test_the_runs_default_yields_to_the_files_and_says_so(tmp_path: Path) -> None:
    folder = write_saelens(tmp_path, random_weights())
    dictionary = load_dictionary(folder, default_hook_point="blocks.0.hook_mlp_out")
    assert dictionary.hook_point == HOOK
    assert any("blocks.0.hook_mlp_out is only for dictionaries that do not say" in note for note in dictionary.notes)
    assert load_dictionary(folder, default_hook_point=HOOK).notes == ()


@pytest.mark.parametrize(
    ("name", "hook_point"),
    [
        ("model.layers.1", "blocks.1.hook_resid_post"),
        ("transformer.h.1", "blocks.1.hook_resid_post"),
        ("gpt_neox.layers.1.mlp", "blocks.1.mlp.hook_out"),
        ("model.layers.1.mlp.down_proj.input", "blocks.1.mlp.hook_post"),
        ("model.layers.1.input_layernorm", "model.layers.1.input_layernorm"),
        ("blocks.1.hook_mlp_out", "blocks.1.hook_mlp_out"),
        ("hook_embed", "hook_embed"),
    ],
)
def test_modules_in_the_place_of_hook_points(tmp_path: Path, name: str, hook_point: str) -> None:
    """SAELens writes Hugging Face's names where the model was none of TransformerLens's."""
    metadata = {"sae_lens_version": "6.10.0", "hook_name": name}
    folder = write_saelens(tmp_path, random_weights(), metadata=metadata)
    assert load_dictionary(folder).hook_point == hook_point
    assert load_dictionary(folder, hook_point=name).hook_point == hook_point


def legacy(folder: Path, **config: object) -> Path:
    write_saelens(folder, random_weights())
    flat = {"d_in": 16, "d_sae": 64, "hook_point": "blocks.1.hook_resid_pre", "hook_point_layer": 1, "dtype": "float32"}
    (folder / "cfg.json").write_text(json.dumps(flat | config))
    return folder


@pytest.mark.parametrize(
    ("inside", "config", "asked", "centred", "noted"),
    [
        ("plain", {}, None, False, "do not say whether"),
        ("plain", {}, True, True, "had centred"),
        ("plain", {}, False, False, None),
        ("plain", {"hook_point": "blocks.1.mlp.hook_post"}, None, False, None),
        ("plain", {"model_from_pretrained_kwargs": {}}, None, False, None),
        ("plain", {"model_from_pretrained_kwargs": {"center_writing_weights": True}}, None, True, "had centred"),
        ("GPT2-Small-SAEs-Reformatted", {}, None, True, "had centred"),
        ("models--jbloom--GPT2-Small-SAEs-Reformatted/snapshots/1", {}, None, True, "had centred"),
        ("GPT2-Small-SAEs-Reformatted", {}, False, False, None),
    ],
)
def test_centring_that_a_legacy_folder_does_not_say(
    tmp_path: Path, inside: str, config: dict[str, object], asked: bool | None, centred: bool, noted: str | None
) -> None:
    """GPT-2's early dictionaries were read uncentred without a word, unless they came by their registry id."""
    folder = legacy(tmp_path / inside / "blocks.1.hook_resid_pre", **config)
    dictionary = load_dictionary(folder, center_input=asked)
    x = torch.randn(5, 16)
    shifted = torch.allclose(dictionary.encode(x), dictionary.encode(x + 3), atol=1e-4)
    assert shifted is centred, "a constant added to a centred input changes nothing"
    assert any(noted in note for note in dictionary.notes) if noted else dictionary.notes == ()


@pytest.mark.parametrize("name", ["W_enc", "b_enc", "W_dec", "b_dec"])
def test_nan_names_its_tensor(tmp_path: Path, name: str) -> None:
    weights = random_weights()
    weights[name].view(-1)[3] = float("nan")
    with pytest.raises(UsageError, match=f"{name} holds NaN"):
        load_dictionary(write_saelens(tmp_path, weights))


def test_wrong_shape_names_tensor_and_shapes(tmp_path: Path) -> None:
    weights = random_weights() | {"b_enc": torch.zeros(63)}
    with pytest.raises(UsageError, match=r"b_enc has shape \[63\], expected \[64\]"):
        load_dictionary(write_saelens(tmp_path, weights))


def test_missing_tensor_is_named(tmp_path: Path) -> None:
    weights = random_weights()
    del weights["b_dec"]
    with pytest.raises(UsageError, match="no tensor b_dec"):
        load_dictionary(write_saelens(tmp_path, weights))


def test_truncated_weights(tmp_path: Path) -> None:
    file = write_saelens(tmp_path, random_weights()) / "sae_weights.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UsageError, match="truncated"):
        load_dictionary(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"d_in": "16", "d_sae": 64}', '{"d_in": true, "d_sae": 64}'])
def test_broken_config(tmp_path: Path, text: str) -> None:
    (write_saelens(tmp_path, random_weights()) / "cfg.json").write_text(text)
    with pytest.raises(UsageError, match=r"cfg\.json"):
        load_dictionary(tmp_path)


def test_unknown_architecture_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'fancy'.*topk"):
        load_dictionary(write_saelens(tmp_path, random_weights(), architecture="fancy"))


def test_nothing_there_and_nothing_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        load_dictionary(tmp_path / "none")
    (tmp_path / "notes.json").write_text(json.dumps({}))
    with pytest.raises(UsageError, match="no dictionary in a known format"):
        load_dictionary(tmp_path)
    with pytest.raises(UsageError, match="no dictionary format 'x'"):
        load_dictionary(tmp_path, format="x")


def test_neuron_basis_keeps_the_largest_positive_values(subject: Subject) -> None:
    basis = load_dictionary("neurons@blocks.0.mlp.hook_post", width_at=subject.width_at)
    assert (basis.d_in, basis.d_sae) == (64, 64)
    x = torch.arange(64.0)[None] - 50
    code = basis.encode_sparse(x)
    assert code.feature.tolist() == list(range(51, 64))
    assert len(basis.encode_sparse(x + 100).feature) == NEURON_K
    assert basis.decoder_directions() is None


def test_neuron_basis_needs_a_model_and_a_hook_point(subject: Subject) -> None:
    with pytest.raises(UsageError, match="width from a model"):
        load_dictionary("neurons@blocks.0.mlp.hook_post")
    with pytest.raises(UsageError, match="lacks its hook point"):
        load_dictionary("neurons@", width_at=subject.width_at)
    with pytest.raises(UsageError, match=r"blocks\.0\.mlp\.hook_post"):
        load_dictionary("neurons@blocks.0.mlp.hook_pots", width_at=subject.width_at)


def test_fit_of_where_a_transcoder_writes(tmp_path: Path, subject: Subject) -> None:
    metadata = {"sae_lens_version": "6.0.0", "hook_name": HOOK, "hook_name_out": "blocks.7.hook_mlp_out"}
    settings = {"architecture": "transcoder", "d_out": 16, "metadata": metadata}
    transcoder = load_dictionary(write_saelens(tmp_path, random_weights(), **settings))
    assert transcoder.prepend_bos is None
    with pytest.raises(UsageError, match=r"no hook point 'blocks\.7\.hook_mlp_out'"):
        check_fit(subject, transcoder)


def test_fit(tmp_path: Path, subject: Subject) -> None:
    assert check_fit(subject, load_dictionary(write_saelens(tmp_path / "fits", random_weights()))) == []
    wide = load_dictionary(write_saelens(tmp_path / "wide", random_weights(d_in=24)))
    with pytest.raises(UsageError, match=r"reads width 24, but .* has width 16"):
        check_fit(subject, wide)
