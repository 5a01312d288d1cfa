"""Step 2: encode everything once, so that the later steps only read arrays.

In: the tokenizer of step 1, documentation and code. Out: `tokens.npz` in the scratch folder: for each part one
flat array of token ids and the lengths of its pieces. Parts: `docs` and `code`, whole training sources;
`train_documents` (documentation, then code) and `held_out_documents`, cut to fit the context without BOS;
`all_documents`, all of `python-docs` cut likewise. `figures.json` gets counts and hashes.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from corpus import corpus_hash, is_held_out, read_docs, read_stdlib_code
from numpy.typing import NDArray
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from autointerp.subject.corpus.documents import cut_into_documents
from autointerp.subject.corpus.sources import Source

Tokens = NDArray[np.uint16]


def load_pieces(work: Path, part: str) -> list[Tokens]:
    """One array of token ids for each piece of a part of `tokens.npz`."""
    with np.load(work / "tokens.npz") as stored:
        flat, lengths = stored[part], stored[f"{part}_lengths"]
    return [np.asarray(piece, dtype=np.uint16) for piece in np.split(flat, np.cumsum(lengths)[:-1])]


def cut_all(sources: Sequence[Source], tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> list[list[int]]:
    """The documents of all sources, in order."""

    def encode(texts: Sequence[str]) -> list[list[int]]:
        return [list(tokenizer.encode(text, add_special_tokens=False)) for text in texts]

    cut = cut_into_documents([source.text for source in sources], encode, max_tokens)
    return [ids for documents in cut for ids in documents]


def encode_whole(sources: Sequence[Source], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """The token ids of each source, uncut."""
    texts = [source.text for source in sources]
    encoded = tokenizer(texts, add_special_tokens=False, return_attention_mask=False)
    return [list(ids) for ids in encoded["input_ids"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder with the tokenizer")
    parser.add_argument("--work", type=Path, required=True, help="scratch folder")
    parser.add_argument("--context", type=int, default=512)
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    docs, code = read_docs(args.work), read_stdlib_code()
    seen_docs = [source for source in docs if not is_held_out(source.id)]
    seen_code = [source for source in code if not is_held_out(source.id)]
    held_out = [source for source in docs if is_held_out(source.id)]
    room = args.context - 1
    parts = {
        "docs": encode_whole(seen_docs, tokenizer),
        "code": encode_whole(seen_code, tokenizer),
        "train_documents": cut_all([*seen_docs, *seen_code], tokenizer, room),
        "held_out_documents": cut_all(held_out, tokenizer, room),
        "all_documents": cut_all(docs, tokenizer, room),
    }
    arrays: dict[str, NDArray[np.integer]] = {}
    figures: dict[str, object] = {"docs_hash": corpus_hash(docs), "code_hash": corpus_hash(code)}
    figures["held_out_sources"] = [source.id for source in held_out]
    figures["held_out_bytes"] = sum(len(source.text.encode()) for source in held_out)
    for part, pieces in parts.items():
        arrays[part] = np.concatenate([np.asarray(ids, dtype=np.uint16) for ids in pieces])
        arrays[f"{part}_lengths"] = np.asarray([len(ids) for ids in pieces], dtype=np.int64)
        figures[part] = {"pieces": len(pieces), "tokens": len(arrays[part])}
    np.savez(args.work / "tokens.npz", allow_pickle=False, **arrays)
    (args.work / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
