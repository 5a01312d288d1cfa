"""What is refused, and that refusing runs nothing: pickles, ambiguous or unsupported checkpoints, unnamed places."""

import gzip
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from autointerp.errors import UsageError
from autointerp.subject.dictionaries import load_dictionary
from tests.unit.subject.test_agreement import FIXTURES
from tests.unit.subject.tiny import random_weights, write_saelens

HOOK = "blocks.0.hook_resid_pre"
TRAP: list[str] = []


def spring(name: str) -> dict[str, str]:
    TRAP.append(name)
    return {}


class Trap:
    """Calls `spring` when it is unpickled."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return spring, (self.name,)


def test_the_trap_works() -> None:
    """Else the tests below would prove nothing."""
    pickle.loads(pickle.dumps(Trap("by hand")))
    assert TRAP.pop() == "by hand"


@pytest.mark.parametrize("name", ["1.pt", "1.pth", "ae.pt", "layer1.sae.pt"])
def test_torch_file_with_an_object(tmp_path: Path, name: str) -> None:
    torch.save({"cfg": Trap(name), "state_dict": random_weights()}, tmp_path / name)
    with pytest.raises(UsageError, match="can run any code, so it is refused"):
        load_dictionary(tmp_path / name, hook_point=HOOK)
    assert TRAP == []


@pytest.mark.parametrize("name", ["sae.pkl", "sae.pickle", "sae.pkl.gz"])
def test_plain_pickle(tmp_path: Path, name: str) -> None:
    data = pickle.dumps(Trap(name))
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    for path in (tmp_path / name, tmp_path):
        with pytest.raises(UsageError, match="is a pickle"):
            load_dictionary(path, hook_point=HOOK)
    assert TRAP == []


def test_npz_with_an_object(tmp_path: Path) -> None:
    np.savez(tmp_path / "params.npz", W_enc=np.array([Trap("npz")], dtype=object))
    with pytest.raises(UsageError, match="refused"):
        load_dictionary(tmp_path, hook_point=HOOK)
    assert TRAP == []


def test_torch_file_under_a_numpy_name(tmp_path: Path) -> None:
    """Both are zip files; what is inside is no array."""
    torch.save(random_weights(), tmp_path / "params.npz")
    with pytest.raises(UsageError, match="no numpy file"):
        load_dictionary(tmp_path, hook_point=HOOK)


@pytest.mark.parametrize("text", ['{"a":' * 10**5 + "1" + "}" * 10**5, "[" * 10**5])
def test_deep_config(tmp_path: Path, text: str) -> None:
    (write_saelens(tmp_path, random_weights()) / "cfg.json").write_text(text)
    with pytest.raises(UsageError, match=r"cfg\.json cannot be read as JSON"):
        load_dictionary(tmp_path)


@pytest.mark.parametrize("norm", [0, -1, 1e308, float("inf"), float("nan"), "1", True])
def test_norms_that_are_none(tmp_path: Path, norm: object) -> None:
    """Division by zero, or weights of NaN."""
    folder = Path(shutil.copytree(FIXTURES / "llama-scope" / "bf16" / "checkpoint", tmp_path / "copy"))
    config = json.loads((folder / "hyperparams.json").read_text())
    config["dataset_average_activation_norm"]["in"] = norm
    (folder / "hyperparams.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"in is .*expected a number"):
        load_dictionary(folder)


def test_torch_file_without_names(tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "1.pt")
    with pytest.raises(UsageError, match="no named tensors but a Tensor"):
        load_dictionary(tmp_path / "1.pt", hook_point=HOOK)


def test_orientation_that_nothing_tells(tmp_path: Path) -> None:
    """As wide as its input, and in a format whose files lie either way."""
    tensors = {name: torch.zeros(8, 8) for name in ("W_enc", "W_dec")} | {n: torch.zeros(8) for n in ("b_enc", "b_dec")}
    save_file(tensors, tmp_path / "layer_1.safetensors")
    with pytest.raises(UsageError, match="W_enc is square, so its orientation is ambiguous"):
        load_dictionary(tmp_path / "layer_1.safetensors", hook_point=HOOK)


def test_top_k_or_batch_top_k_without_a_config(tmp_path: Path) -> None:
    tensors = {"encoder.weight": torch.zeros(8, 4), "encoder.bias": torch.zeros(8), "decoder.weight": torch.zeros(4, 8)}
    torch.save(tensors | {"b_dec": torch.zeros(4), "k": torch.tensor(2)}, tmp_path / "ae.pt")
    with pytest.raises(UsageError, match=r"put its config\.json beside it"):
        load_dictionary(tmp_path, hook_point=HOOK)


@pytest.mark.parametrize(
    ("trainer_class", "kind"), [("TrainerTopK", "topk k=2"), ("BatchTopKTrainer", "BatchTopKSAE, jumprelu")]
)
def test_old_top_k_files_name_their_trainer_only(tmp_path: Path, trainer_class: str, kind: str) -> None:
    tensors = {"encoder.weight": torch.zeros(8, 4), "encoder.bias": torch.zeros(8), "decoder.weight": torch.zeros(4, 8)}
    extra = {"b_dec": torch.zeros(4), "k": torch.tensor(2), "threshold": torch.tensor(-1.0)}
    torch.save(tensors | extra, tmp_path / "ae.pt")
    (tmp_path / "config.json").write_text(json.dumps({"trainer": {"trainer_class": trainer_class, "layer": 3}}))
    dictionary = load_dictionary(tmp_path)
    assert dictionary.kind.endswith(kind)
    assert dictionary.hook_point == "blocks.3.hook_resid_post"
    assert any("never set" in note for note in dictionary.notes) is trainer_class.startswith("Batch")


def test_qwen_scope_needs_its_folder_for_k(tmp_path: Path) -> None:
    torch.save(random_weights(), tmp_path / "layer1.sae.pt")
    with pytest.raises(UsageError, match="how many features it keeps per token"):
        load_dictionary(tmp_path / "layer1.sae.pt")


def test_whole_sequence_dictionaries(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'temporal' is not supported"):
        load_dictionary(write_saelens(tmp_path, random_weights(), architecture="temporal"))


def test_one_attention_head(tmp_path: Path) -> None:
    metadata = {"sae_lens_version": "6.0.0", "hook_name": "blocks.0.attn.hook_z", "hook_head_index": 3}
    with pytest.raises(UsageError, match="one attention head"):
        load_dictionary(write_saelens(tmp_path, random_weights(), metadata=metadata))


def test_files_that_name_no_hook_point(tmp_path: Path) -> None:
    tensors = {"pre_bias": torch.zeros(4), "latent_bias": torch.zeros(8), "encoder.weight": torch.zeros(8, 4)}
    torch.save(tensors | {"decoder.weight": torch.zeros(4, 8)}, tmp_path / "5.pt")
    with pytest.raises(UsageError, match="give its hook point"):
        load_dictionary(tmp_path / "5.pt")


@pytest.mark.parametrize(
    "settings", [{"k": 5, "postact_fn": "Tanh"}, {"k": 0, "postact_fn": "ReLU"}, {"postact_fn": "ReLU"}]
)
def test_openai_settings_that_are_not_known(tmp_path: Path, settings: dict[str, object]) -> None:
    tensors = {"pre_bias": torch.zeros(4), "latent_bias": torch.zeros(8), "encoder.weight": torch.zeros(8, 4)}
    values = tensors | {"decoder.weight": torch.zeros(4, 8), "activation": "TopK", "activation_state_dict": settings}
    torch.save(values, tmp_path / "5.pt")
    with pytest.raises(UsageError, match="TopK with k"):
        load_dictionary(tmp_path / "5.pt", hook_point=HOOK)


def test_several_files_in_a_folder(tmp_path: Path) -> None:
    for name in ("1.pt", "2.pt"):
        torch.save(random_weights(), tmp_path / name)
    with pytest.raises(UsageError, match="no dictionary in a known format"):
        load_dictionary(tmp_path, hook_point=HOOK)
    with pytest.raises(UsageError, match="give the path of the file itself"):
        load_dictionary(tmp_path, format="openai", hook_point=HOOK)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("normalize_activations", "fancy", "normalize_activations 'fancy' is not known"),
        ("k", "five", "k is 'five', expected a whole number"),
        ("apply_b_dec_to_input", "yes", "expected true or false"),
        ("metadata", 3, "metadata is 3, expected an object"),
        ("d_sae", None, "has no d_sae"),
    ],
)
def test_config_values(tmp_path: Path, key: str, value: object, words: str) -> None:
    settings: dict[str, object] = {"architecture": "topk", "k": 5, key: value}
    with pytest.raises(UsageError, match=words):
        load_dictionary(write_saelens(tmp_path, random_weights(), **settings), format="saelens")


def test_current_and_legacy_saelens_are_told_apart_by_version(tmp_path: Path) -> None:
    """Both have the same two file names."""
    folder = write_saelens(tmp_path, random_weights())
    config = json.loads((folder / "cfg.json").read_text())
    del config["metadata"]
    (folder / "cfg.json").write_text(json.dumps(config | {"hook_point": HOOK, "sae_lens_version": "5.10.2"}))
    assert load_dictionary(folder).hook_point == HOOK
