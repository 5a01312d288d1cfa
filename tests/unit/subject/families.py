"""A tiny random model of any architecture that transformers and TransformerLens both know.

A model type flows in, a Hugging Face model flows out. Norm gains stand away from one and matrices are large, so that no
two places inside a block agree by chance.
"""

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel

SIZES: dict[str, object] = {
    "hidden_size": 32, "n_embd": 32, "d_model": 32, "word_embed_proj_dim": 32, "intermediate_size": 48, "n_inner": 48,
    "ffn_dim": 48, "ffn_hidden_size": 64, "num_hidden_layers": 2, "n_layer": 2, "n_layers": 2,
    "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "rotary_dim": 4,
    "max_position_embeddings": 64, "n_positions": 64, "max_seq_len": 64, "sliding_window": 16,
    "num_local_experts": 4, "num_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1,
    "topk_group": 1, "first_k_dense_replace": 1, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24,
    "residual_multiplier": 0.3, "attention_dropout": 0.0, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
"""Under every name that a configuration may have for them."""


def make_any(model_type: str, n_vocab: int) -> PreTrainedModel:
    """The model in evaluation mode, with eager attention."""
    torch.manual_seed(0)
    config_class = CONFIG_MAPPING[model_type]
    known = config_class()
    values = {key: value for key, value in (SIZES | {"vocab_size": n_vocab}).items() if hasattr(known, key)}
    if getattr(known, "layer_types", None):
        values["layer_types"] = list(known.layer_types[:2])
    if model_type in ("phi", "stablelm"):
        values["partial_rotary_factor"] = 0.5
    if model_type == "falcon":
        values.pop("head_dim")
    if model_type == "gpt_neo":
        values |= {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]}
    config = config_class(**values)
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
            else:
                parameter.mul_(4)
    return model
