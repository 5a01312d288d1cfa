"""Tiny random models and dictionaries as folders, made on the spot by the libraries that define their formats.

A folder to fill flows in. Nothing here is trained, and nothing is read from the package under test.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

D_MODEL = 16
N_LAYER = 2
N_CTX = 32
TEXT = "the cat sat on the mat and said hello world"


def make_tokenizer(bos: bool = True) -> PreTrainedTokenizerFast:
    """A byte-level BPE of a few merges; id 0 is the special token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290, special_tokens=["<|bos|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([TEXT] * 20, trainer)
    special = {"bos_token": "<|bos|>", "eos_token": "<|bos|>"} if bos else {}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def make_gpt2(n_vocab: int, n_layer: int = N_LAYER) -> GPT2LMHeadModel:
    """Two heads, with weights large enough that every step of the forward pass matters."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=n_vocab,
        n_positions=N_CTX,
        n_embd=D_MODEL,
        n_layer=n_layer,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=0.3,
    )
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "ln_" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def write_gpt2(folder: Path, bos: bool = True, spare_ids: int = 3) -> Path:
    """A whole Hugging Face folder; the embedding has `spare_ids` rows more than the tokenizer has tokens."""
    tokenizer = make_tokenizer(bos)
    make_gpt2(len(tokenizer) + spare_ids).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_saelens(folder: Path, tensors: Mapping[str, Tensor], **config: object) -> Path:
    """A SAELens folder of the current layout around the given weights."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "sae_weights.safetensors")
    d_in, d_sae = tensors["W_enc"].shape
    values: dict[str, object] = {
        "architecture": "standard",
        "d_in": d_in,
        "d_sae": d_sae,
        "dtype": "float32",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"sae_lens_version": "6.54.12", "hook_name": "blocks.1.hook_resid_post", "prepend_bos": True},
    }
    (folder / "cfg.json").write_text(json.dumps(values | config))
    return folder


def random_weights(d_in: int = D_MODEL, d_sae: int = 64, seed: int = 0) -> dict[str, Tensor]:
    """The four tensors of a plain SAE."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return {"W_enc": draw(d_in, d_sae), "b_enc": draw(d_sae), "W_dec": draw(d_sae, d_in), "b_dec": draw(d_in)}


def make_family(family: str, n_vocab: int) -> PreTrainedModel:
    """A tiny random model of one architecture, with norm gains away from one."""
    torch.manual_seed(0)
    common: dict[str, object] = {
        "vocab_size": n_vocab,
        "hidden_size": D_MODEL,
        "num_hidden_layers": N_LAYER,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": N_CTX,
        "initializer_range": 0.3,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    grouped = {"num_key_value_heads": 1}
    models: dict[str, Callable[[], PreTrainedModel]] = {
        "gpt2": lambda: make_gpt2(n_vocab),
        "gpt-neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**common)),
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**common, **grouped)),
        "gemma-2": lambda: Gemma2ForCausalLM(Gemma2Config(**common, **grouped, head_dim=8, pad_token_id=0)),
    }
    model = models[family]()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def write_family(folder: Path, family: str) -> Path:
    """A whole Hugging Face folder of one architecture."""
    tokenizer = make_tokenizer()
    make_family(family, len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
