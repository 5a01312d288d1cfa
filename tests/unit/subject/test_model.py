"""The model host against Hugging Face's own forward pass, and every way in which a folder can be wrong."""

import io
import json
import os
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from autointerp.errors import UsageError
from autointerp.subject.model import Subject, load_model
from tests.unit.subject.tiny import D_MODEL, N_CTX, make_tokenizer, write_gpt2

IDS = torch.tensor([[0, 5, 9, 70, 33], [0, 12, 13, 14, 15]])


@pytest.fixture
def copied(gpt2_folder: Path, tmp_path: Path) -> Path:
    """A folder to damage."""
    return Path(shutil.copytree(gpt2_folder, tmp_path / "model"))


def test_what_a_subject_knows(subject: Subject) -> None:
    assert (subject.n_ctx, subject.bos_token_id) == (N_CTX, 0)
    assert subject.d_vocab == len(make_tokenizer()) + 3 == len(subject.vocabulary())
    assert (subject.dtype, subject.device) == (torch.float32, torch.device("cpu"))
    assert subject.digest.startswith("blake2b:")


def test_residual_stream_equals_hugging_face(subject: Subject, gpt2_folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(gpt2_folder).eval()
    with torch.no_grad():
        hidden = model(IDS, output_hidden_states=True).hidden_states
    got = subject.capture(IDS, ["hook_embed", "blocks.0.hook_resid_pre", "blocks.1.hook_resid_pre"])
    torch.testing.assert_close(got["blocks.0.hook_resid_pre"], hidden[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(got["blocks.1.hook_resid_pre"], hidden[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("hook_point", "module", "width"),
    [
        ("blocks.1.attn.hook_z", "transformer.h.1.attn.c_proj", D_MODEL),
        ("blocks.1.mlp.hook_post", "transformer.h.1.mlp.c_proj", 4 * D_MODEL),
    ],
)
def test_inputs_of_output_layers(subject: Subject, gpt2_folder: Path, hook_point: str, module: str, width: int) -> None:
    """Heads are flattened in the order in which the output projection reads them."""
    model = AutoModelForCausalLM.from_pretrained(gpt2_folder, attn_implementation="eager").eval()
    seen = []
    model.get_submodule(module).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        model(IDS)
    assert subject.width_at(hook_point) == width
    torch.testing.assert_close(subject.capture(IDS, [hook_point])[hook_point], seen[0], atol=1e-5, rtol=1e-5)


def test_padding_on_the_right_changes_nothing(subject: Subject) -> None:
    hook = "blocks.1.hook_resid_post"
    short = subject.capture(IDS[:, :3], [hook])[hook]
    torch.testing.assert_close(subject.capture(IDS, [hook])[hook][:, :3], short, atol=1e-5, rtol=1e-5)


def test_forward_stops_at_the_last_hook_needed(subject: Subject) -> None:
    """Computing the logits costs more than the whole of a small model."""
    ran = []
    handles = [
        subject._bridge.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.append(name))
        for name in ("blocks.1", "ln_final", "unembed")
    ]
    try:
        subject.capture(IDS, ["blocks.0.hook_resid_post", "blocks.0.hook_mlp_out"])
        assert ran == []
        subject.capture(IDS, ["blocks.1.hook_resid_post"])
        assert "unembed" not in ran
    finally:
        for handle in handles:
            handle.remove()


def test_aliases_and_no_gradient(subject: Subject) -> None:
    got = subject.capture(IDS, ["blocks.0.hook_resid_post", "blocks.0.hook_out"])
    assert torch.equal(got["blocks.0.hook_resid_post"], got["blocks.0.hook_out"])
    assert not got["blocks.0.hook_out"].requires_grad


def test_threads_take_turns(subject: Subject) -> None:
    """Hooks are state on the module; threads that share it mix up each other's activations."""
    hook = "blocks.1.hook_resid_post"
    batches = [torch.full((1, 4), i + 1) for i in range(8)]
    expected = [subject.capture(batch, [hook])[hook] for batch in batches]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(10):
            if not torch.equal(subject.capture(batches[i], [hook])[hook], expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("blocks.1.hook_resid_pots", r"near ones are blocks\.1\.hook_resid_post"),
        ("blocks.9.hook_resid_post", "no hook point"),
        ("blocks.0.attn.hook_pattern", "not one vector per token"),
        ("blocks.0.attn.qkv.hook_in", "gives no activation"),
        ("blocks.0.hook_mlp_in", "cannot be used"),
        ("embed.hook_in", "not one vector per token"),
    ],
)
def test_hook_points_that_cannot_serve(subject: Subject, name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        subject.check_hook_point(name)


def test_output_weights_against_the_final_layers(subject: Subject, gpt2_folder: Path) -> None:
    """Second route: the final norm of d is (d - mean) / sd * gain + bias, so its logits give the weights back."""
    model = AutoModelForCausalLM.from_pretrained(gpt2_folder).eval()
    directions = 5 * torch.randn(3, D_MODEL)
    weights = subject.output_tokens(directions, "blocks.0.hook_mlp_out")
    assert weights is not None
    with torch.no_grad():
        logits = model.lm_head(model.transformer.ln_f(directions))
        bias = model.lm_head(model.transformer.ln_f.bias)
        sd = directions.std(dim=1, correction=0, keepdim=True)
    torch.testing.assert_close(weights, (logits - bias) * sd, atol=1e-3, rtol=1e-3)


def test_output_weights_of_neurons_and_heads(subject: Subject, gpt2_folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(gpt2_folder)
    for hook, module in [("blocks.1.mlp.hook_post", "mlp.c_proj"), ("blocks.1.attn.hook_z", "attn.c_proj")]:
        matrix = model.transformer.h[1].get_submodule(module).weight.detach()
        one_hot = torch.eye(len(matrix))[3:5]
        through = subject.output_tokens(one_hot, hook)
        direct = subject.output_tokens(matrix[3:5], "blocks.1.hook_resid_post")
        assert through is not None
        assert direct is not None
        torch.testing.assert_close(through, direct, atol=1e-5, rtol=1e-5)


def test_no_direct_path_from_inside_a_block(subject: Subject) -> None:
    assert subject.output_tokens(torch.eye(D_MODEL), "blocks.0.ln1.hook_normalized") is None


def test_redrawing_is_seeded_and_keeps_the_embeddings(gpt2_folder: Path, subject: Subject) -> None:
    one, same, other = (load_model(gpt2_folder, "cpu", rerandomise_seed=seed) for seed in (1, 1, 2))
    assert one.digest == same.digest
    assert len({one.digest, other.digest, subject.digest}) == 3
    embed, late = "hook_embed", "blocks.1.hook_resid_post"
    plain, redrawn = (s.capture(IDS, [embed, late]) for s in (subject, one))
    assert torch.equal(plain[embed], redrawn[embed])
    assert not torch.allclose(plain[late], redrawn[late], atol=0.1)


def test_lower_precision(gpt2_folder: Path) -> None:
    half = load_model(gpt2_folder, "cpu", "bfloat16")
    assert half.dtype == torch.bfloat16
    assert half.capture(IDS, ["blocks.0.hook_resid_post"])["blocks.0.hook_resid_post"].dtype == torch.bfloat16


def test_loading_leaves_the_environment_alone(gpt2_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    load_model(gpt2_folder, "cpu")
    assert "HF_HUB_OFFLINE" not in os.environ


def test_loading_prints_nothing(gpt2_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_model(gpt2_folder, "cpu")
    assert capfd.readouterr() == ("", "")


def test_no_tokenizer_is_an_error(copied: Path) -> None:
    """The silent trap: the library makes up a one-token tokenizer, and every text becomes zeros."""
    (copied / "tokenizer.json").unlink()
    with pytest.raises(UsageError, match="has no tokenizer"):
        load_model(copied)


def test_tokens_beyond_the_embeddings(copied: Path) -> None:
    """Gemma 3's text models have one, for images, which no text has; another model's tokenizer has many that it has."""
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([f"word{i}" for i in range(20)])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image_soft_token>"]})
    tokenizer.save_pretrained(copied)
    subject = load_model(copied, "cpu")
    assert subject.encode_text(["the cat <image_soft_token>"]) != subject.encode_text(["the cat"])
    assert len(subject.vocabulary()) == subject.d_vocab
    with pytest.raises(UsageError, match="gives 'word19' in the text the id 303, the model has only 287 embeddings"):
        subject.encode_text(["the cat", "a word19 and word5"])


def test_a_bos_beyond_the_embeddings_is_none(copied: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([f"word{i}" for i in range(20)])
    tokenizer.add_special_tokens({"bos_token": "<late>"})
    tokenizer.save_pretrained(copied)
    assert load_model(copied, "cpu").bos_token_id is None


@pytest.mark.parametrize(
    ("file", "words"), [("config.json", "no config.json"), ("model.safetensors", "no .*safetensors weights")]
)
def test_missing_file(copied: Path, file: str, words: str) -> None:
    (copied / file).unlink()
    with pytest.raises(UsageError, match=words):
        load_model(copied)


def test_truncated_weights(copied: Path) -> None:
    file = copied / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(UsageError, match="truncated"):
        load_model(copied)


def test_nan_in_weights(copied: Path) -> None:
    file = copied / "model.safetensors"
    tensors = load_file(file)
    tensors["transformer.h.1.mlp.c_fc.weight"][0, 0] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"h\.1\.mlp\.c_fc\.weight holds NaN"):
        load_model(copied)


@pytest.mark.parametrize(
    ("value", "words"), [(70_000.0, "beyond 65,504, the largest of float16; take dtype"), (float("nan"), "holds NaN")]
)
def test_weights_beyond_half_precision(copied: Path, value: float, words: str) -> None:
    """The cast made them infinite, and the message was to get the weights again."""
    file = copied / "model.safetensors"
    tensors = load_file(file)
    tensors["transformer.h.1.mlp.c_fc.weight"][0, 0] = value
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UsageError, match=words):
        load_model(copied, "cpu", "float16")
    if value == 70_000.0:
        assert load_model(copied, "cpu", "bfloat16").dtype == torch.bfloat16


def test_missing_weight_is_not_made_up(copied: Path) -> None:
    """The library fills what a file lacks with fresh random weights and only warns."""
    file = copied / "model.safetensors"
    tensors = load_file(file)
    del tensors["transformer.h.1.mlp.c_fc.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"lacks the weights .*h\.1\.mlp\.c_fc\.weight"):
        load_model(copied)


def test_missing_shard_of_split_weights(copied: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (copied / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UsageError, match="lacks model-00001-of-00002"):
        load_model(copied)


def test_unknown_architecture(copied: Path) -> None:
    (copied / "config.json").write_text(json.dumps({"model_type": "none-such"}))
    with pytest.raises(UsageError, match="cannot be loaded"):
        load_model(copied)


EVIL = "import pathlib; pathlib.Path(__file__).with_name('EXECUTED').touch()\n"


def write_evil(folder: Path, config: Mapping[str, object], tokenizer: Mapping[str, object]) -> None:
    """A folder whose configs name code in the folder; it leaves a mark where it is imported."""
    names = "from transformers import GPT2Config as C, GPT2LMHeadModel as M, GPT2TokenizerFast as T\n"
    (folder / "evil.py").write_text(EVIL.replace("__file__", repr(str(folder / "evil.py"))) + names)
    for name, values in (("config.json", config), ("tokenizer_config.json", tokenizer)):
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | dict(values)))


@pytest.mark.parametrize("known", [False, True])
def test_a_folders_own_code_is_never_run(copied: Path, monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    """With the question left to transformers, a `yes` on standard input ran it."""
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n" * 10))
    auto_map = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}
    tokens = {"auto_map": {"AutoTokenizer": [None, "evil.T"]}, "tokenizer_class": "T"}
    write_evil(copied, {"auto_map": auto_map} | ({} if known else {"model_type": "evil"}), tokens)
    if known:
        load_model(copied, "cpu")
    else:
        with pytest.raises(UsageError, match="wants to run Python code of its own"):
            load_model(copied, "cpu")
    assert not (copied / "EXECUTED").exists()


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("config.json", '{"a":' * 10**5 + "1" + "}" * 10**5, "cannot be read as JSON"),
        ("tokenizer.json", "garbage", "the tokenizer of .* cannot be loaded"),
        ("tokenizer.json", '{"a":' * 10**5 + "1" + "}" * 10**5, "the tokenizer of .* cannot be loaded"),
        ("model.safetensors.index.json", '{"weight_map": {"a": ["x"]}}', "does not map tensors to files"),
        ("model.safetensors.index.json", '{"weight_map": ["x"]}', "does not map tensors to files"),
    ],
)
def test_files_of_the_wrong_kind(copied: Path, file: str, text: str, words: str) -> None:
    """Each was a traceback."""
    (copied / file).write_text(text)
    with pytest.raises(UsageError, match=words):
        load_model(copied)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("n_layer", 10**7, "n_layer = 10,000,000, but the weights beside it hold 28 tensors"),
        ("n_layer", 0, "n_layer = 0, but"),
        ("text_config", {"num_hidden_layers": 10**7}, "num_hidden_layers = 10,000,000, but"),
        ("n_embd", 32, "its weights have other shapes than its config.json says"),
    ],
)
def test_sizes_that_the_weights_do_not_have(copied: Path, key: str, value: object, words: str) -> None:
    """Ten million layers were built, one by one, before the first weight was looked at."""
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(UsageError, match=words):
        load_model(copied)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        load_model(tmp_path / "none")


def test_model_without_bos(tmp_path: Path) -> None:
    """TransformerLens would put the EOS token, or nothing, in its place."""
    assert load_model(write_gpt2(tmp_path, bos=False), "cpu").bos_token_id is None


def test_a_token_named_as_bos(tmp_path: Path) -> None:
    """Qwen's tokenizer names no BOS; TransformerLens puts `<|endoftext|>` there, and nothing let a user say so."""
    folder = write_gpt2(tmp_path, bos=False)
    assert load_model(folder, "cpu", bos_token="<|bos|>").bos_token_id == 0
    with pytest.raises(UsageError, match=r"has no token '<\|none\|>' to begin with"):
        load_model(folder, "cpu", bos_token="<|none|>")


def test_unknown_dtype(gpt2_folder: Path) -> None:
    with pytest.raises(UsageError, match="choose from float32, bfloat16, float16"):
        load_model(gpt2_folder, "cpu", "fp32")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_missing_device(gpt2_folder: Path) -> None:
    with pytest.raises(UsageError, match="use cpu"):
        load_model(gpt2_folder, "cuda")
