"""Step 1: train the demo model's tokenizer, a byte-level BPE with one special token.

In: the training part of documentation and code. Out: tokenizer files in the model's folder. Any text survives
encoding and decoding: there is no normaliser and no prefix space.
"""

import argparse
from pathlib import Path

from corpus import is_held_out, read_docs, read_stdlib_code
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

BOS = "<|bos|>"


def train_tokenizer(texts: list[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE of `vocab_size` tokens, the special token included at id 0."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(BOS, special=True, normalized=False)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's folder")
    parser.add_argument("--work", type=Path, required=True, help="scratch folder")
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--docs-weight", type=int, default=4, help="documentation counts this often against code")
    parser.add_argument("--context", type=int, default=512)
    args = parser.parse_args()
    docs = [source.text for source in read_docs(args.work) if not is_held_out(source.id)]
    code = [source.text for source in read_stdlib_code() if not is_held_out(source.id)]
    tokenizer = train_tokenizer(docs * args.docs_weight + code, args.vocab_size)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=BOS,
        pad_token=BOS,
        model_max_length=args.context,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(args.model)


if __name__ == "__main__":
    main()
