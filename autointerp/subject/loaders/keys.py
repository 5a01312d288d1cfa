"""What a checkpoint's files say that its reader did not ask for: known to be harmless, noted, or refused.

A checkpoint flows in after its reader is done; notes, or a `UsageError` that names the key, flow out. For each library
the keys are named here that only tell of training.
"""

from typing import NamedTuple

from autointerp.errors import UsageError
from autointerp.subject.loaders.checkpoint import Checkpoint
from autointerp.subject.loaders.config import CheckpointConfig

_MOST_NOTED = 5


class Keys(NamedTuple):
    """Keys that a reader leaves aside."""

    harmless: frozenset[str] = frozenset()
    """Those that cannot change what is encoded, in any section."""
    records: frozenset[str] = frozenset()
    """Sections that only tell of training, where an unknown key that is on is noted and never refused."""
    tensors: frozenset[str] = frozenset()
    """Tensors that cannot change what is encoded."""


def check_left(checkpoint: Checkpoint, keys: Keys) -> tuple[str, ...]:
    """Notes on settings that are on, and on tensors that are not zero, which the reader did not look at.

    Raises:
        UsageError: an unknown switch is on outside of the sections that only tell of training.
    """
    notes = [note for config in checkpoint.configs for note in _of_config(config, keys)]
    for weights in checkpoint.all_weights:
        left = [name for name in weights.left() if name not in keys.tensors]
        if left:
            notes.append(f"Its {weights.path.name} also holds {_listed(left)}, which is not read here.")
    return tuple(notes)


def _of_config(config: CheckpointConfig, keys: Keys) -> list[str]:
    left = {key: value for key, value in config.left().items() if key.rsplit(".", 1)[-1] not in keys.harmless}
    for key, value in left.items():
        if value is True and key.split(".")[0] not in keys.records:
            raise UsageError(
                f"{config.path}: {key} is on, a switch that is not known here and may change what the dictionary "
                "computes; if it only concerns training, take it out of a copy of the file"
            )
    told = [f"{key} = {_short(value)}" for key, value in left.items() if _is_telling(key, value, keys)]
    if not told:
        return []
    return [
        f"Its {config.path.name} says {_listed(told)}, which is not known here and left out; if it changes what is "
        "encoded, the activations are wrong."
    ]


def _listed(items: list[str]) -> str:
    more = f" and {len(items) - _MOST_NOTED} more" if len(items) > _MOST_NOTED else ""
    return ", ".join(items[:_MOST_NOTED]) + more


def _is_telling(key: str, value: object, keys: Keys) -> bool:
    """In a record of training, names and lists are part of the story; switches and figures may be more."""
    return key.split(".")[0] not in keys.records or isinstance(value, bool | int | float)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SIZES = frozenset({"d_sae", "d_in", "d_out", "d_model", "dict_size", "act_size", "activation_dim", "d_mlp"})
"""Sizes, which the tensors say again and better."""

_SAELENS = _SIZES | _words(
    """
    dtype device reshape_activations noise_scale b_dec_init_method expansion_factor
    init_encoder_as_decoder_transpose normalize_sae_decoder decoder_orthogonal_init decoder_heuristic_init
    decoder_heuristic_init_norm decoder_init_norm jumprelu_init_threshold jumprelu_bandwidth
    jumprelu_sparsity_loss_mode jumprelu_tanh_scale l0_coefficient l0_warm_up_steps pre_act_loss_coefficient
    mse_loss_normalization l1_coefficient lp_norm l1_warm_up_steps scale_sparsity_penalty_by_decoder_norm
    sparsity_penalty_decoder_norm_lp_norm use_ghost_grads finetuning_method finetuning_tokens aux_loss_coefficient
    topk_threshold_lr use_sparse_activations matryoshka_widths k activation_fn_kwargs model_name model_class_name
    model_kwargs model_from_pretrained_kwargs hook_layer hook_eval hook_point_layer hook_point_eval hook_layer_out
    hook_head_index_out dataset_path dataset_trust_remote_code streaming is_dataset_tokenized context_size
    use_cached_activations cached_activations_path from_pretrained_path n_batches_in_buffer training_tokens
    total_training_tokens total_training_samples total_training_steps store_batch_size_prompts store_batch_size
    train_batch_size train_batch_size_tokens train_batch_size_samples disable_concat_sequences
    sequence_separator_token act_store_device seed autocast autocast_lm compile_llm llm_compilation_mode compile_sae
    sae_compilation_mode adam_beta1 adam_beta2 lr lr_scheduler_name lr_warm_up_steps lr_end lr_decay_steps
    n_restart_cycles dead_feature_window feature_sampling_window feature_sampling_method feature_reinit_scale
    resample_batches dead_feature_threshold n_eval_batches n_eval_seqs eval_batch_size_prompts logger log_to_wandb
    log_activations_store_to_wandb log_optimizer_state_to_wandb wandb_project wandb_id run_name wandb_entity
    wandb_log_frequency eval_every_n_wandb_logs resume resume_from_checkpoint n_checkpoints checkpoint_path
    save_final_checkpoint output_path verbose sae_lens_version sae_lens_training_version exclude_special_tokens
    neuronpedia_id neuronpedia training_architecture training_architecture_details tokens_per_buffer
    from_pretrained_kwargs layer prepend_bos hook_point_head_index center_unembed center_writing_weights fold_ln
    fold_value_biases n_ctx trust_remote_code
    """
)
_SPARSIFY = _SIZES | _words(
    """
    expansion_factor normalize_decoder multi_topk num_latents init_method
    """
)
_OPENMOSS = _SIZES | _words(
    """
    device dtype expansion_factor sae_pretrained_name_or_path strict_loading use_triton_kernel
    sparsity_threshold_for_triton_spmm_kernel sparsity_threshold_for_csr jumprelu_threshold_window
    circuit_tracing_mode promote_act_fn_dtype force_unit_decoder_norm decoder_exactly_fixed_norm
    decoder_exactly_unit_norm bias_init_method decoder_bias_init_method init_decoder_norm init_encoder_norm
    init_encoder_with_decoder_transpose lp l1_coefficient l1_coefficient_warmup_steps initial_k k_warmup_steps top_k
    use_batch_norm_mse use_ghost_grads tp_size ddp_size sae_from_pretrained_path from_pretrained_path
    geometric_median_max_iter dataset_average_activation_norm jump_relu_threshold model_name
    """
)
_LEARNING = _SIZES | _words(
    """
    trainer_class dict_class lr steps auxk_alpha warmup_steps decay_start threshold_beta threshold_start_step
    top_k_aux seed k group_fractions group_weights group_sizes device layer lm_name wandb_name submodule_name
    l1_penalty resample_steps sparsity_warmup_steps bandwidth sparsity_penalty target_l0 sparsity_function p_start
    p_end anneal_start anneal_end sparsity_queue_length n_sparsity_updates lp_norm d_submodule n_ctxs ctx_len
    refresh_batch_size out_batch_size buffer_size remove_bos add_special_tokens
    """
)
_GEMMA_SCOPE_2 = _SIZES | _words(
    """
    model_name width l0 type affine_connection
    """
)
_NEEL = _SIZES | _words(
    """
    seed batch_size buffer_mult lr num_tokens l1_coeff beta1 beta2 dict_mult seq_len enc_dtype remove_rare_dir
    model_name site layer layer_type device model_batch_size buffer_size buffer_batches num_batches name save_dir
    act_size dict_size head
    """
)

NONE = Keys()
SAELENS = Keys(_SAELENS, frozenset({"metadata"}), frozenset({"scaling_factor"}))
SPARSIFY = Keys(_SPARSIFY)
OPENMOSS = Keys(_OPENMOSS)
LEARNING = Keys(_LEARNING, frozenset({"trainer", "buffer"}), _words("k threshold group_sizes active_groups"))
GEMMA_SCOPE_2 = Keys(_GEMMA_SCOPE_2)
NEEL = Keys(_NEEL)
OPENAI = Keys(tensors=_words("stats_last_nonzero latents_activation_frequency latents_mean_square"))
CIRCUIT_TRACER = Keys(_words("model_name model_kind scan transcoders repo_id repo_url revision n_layers d_model"))
