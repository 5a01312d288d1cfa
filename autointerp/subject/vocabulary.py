"""What each token id stands for, as escaped text, and how text becomes ids: the tokenizer as the rest sees it.

A `transformers` tokenizer flows in; escaped token texts and id lists flow out. Knows no model.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from autointerp.format import SpecialToken, escape_bytes, escape_special

_SPIECE_SPACE = "▁"
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class HFTokenizer(Protocol):
    """The part of a `transformers` tokenizer that is used here."""

    bos_token_id: int | None
    all_special_ids: list[int]
    all_special_tokens: list[str]

    def get_vocab(self) -> dict[str, int]:
        """Token strings to ids, added tokens included."""

    def decode(self, token_ids: list[int]) -> str:
        """Text of ids."""

    @property
    def added_tokens_decoder(self) -> dict[int, object]:
        """Tokens beside the trained vocabulary."""

    @property
    def eos_token(self) -> str | None:
        """The end-of-sequence token."""

    def __call__(self, text: list[str], **options: object) -> dict[str, list[list[int]]]:
        """Encode texts."""


def escaped_vocabulary(tokenizer: HFTokenizer, d_vocab: int) -> list[str]:
    """Escaped text of every id below `d_vocab`; ids without a token are special tokens called `unused-ID`.

    Exact for byte-level BPE and SentencePiece (`▁` is a space, `<0xHH>` a byte); for WordPiece and whole words the text
    that a token adds inside a word run; a mark of a word's end (`</w>`, or no `@@`) is a space.
    """
    texts = [escape_special(SpecialToken(f"unused-{i}")) for i in range(d_vocab)]
    added = {i: str(token) for i, token in tokenizer.added_tokens_decoder.items()}
    special = set(tokenizer.all_special_ids) | {
        i for i, token in tokenizer.added_tokens_decoder.items() if getattr(token, "special", False)
    }
    to_bytes = _byte_rule(tokenizer)
    for token, i in tokenizer.get_vocab().items():
        if i >= d_vocab:
            continue
        if i in special:
            texts[i] = escape_special(SpecialToken(token))
        elif i in added:
            texts[i] = escape_bytes(added[i].encode("utf-8", errors="surrogatepass"))
        else:
            texts[i] = escape_bytes(to_bytes(token))
    return texts


def encode_texts(tokenizer: HFTokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text, no special token added and none read from the text: a corpus is text, not control."""
    if not texts:
        return []
    encoded = tokenizer(
        list(texts),
        add_special_tokens=False,
        split_special_tokens=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        truncation=False,
        padding=False,
        verbose=False,
    )
    return encoded["input_ids"]


def _byte_rule(tokenizer: HFTokenizer) -> Callable[[str], bytes]:
    """How this tokenizer's token strings stand for bytes, by what its decoder is made of."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    spec = json.loads(backend.to_str()) if backend is not None else {}
    made_of, model = _component_types(spec), spec.get("model") or {}
    plain = _from_byte_level if "ByteLevel" in made_of else _from_sentence_piece
    end = model.get("end_of_word_suffix") or (spec.get("decoder") or {}).get("suffix")
    if end:
        return lambda token: plain(token.removesuffix(end)) + (b" " if token.endswith(end) else b"")
    if plain is _from_byte_level:
        return plain
    if "WordPiece" in made_of:
        return _from_word_piece
    if model.get("type") == "WordLevel" and "Metaspace" not in made_of:
        return lambda token: b" " + plain(token)
    if _marks_unfinished_words(tokenizer.get_vocab()):
        return lambda token: plain(token.removesuffix("@@")) + (b"" if token.endswith("@@") else b" ")
    return plain


def _marks_unfinished_words(vocabulary: Iterable[str]) -> bool:
    """Whether tokens that do not end a word say so with `@@`, as those of fairseq and CTRL do."""
    tokens = list(vocabulary)
    return sum(token.endswith("@@") and len(token) > 2 for token in tokens) > len(tokens) / 20


def _component_types(spec: dict[str, object]) -> set[object]:
    """Types of the tokenizer's model, pre-tokenizer and decoder, nested ones included."""
    found: set[object] = set()
    waiting: list[object] = [spec.get("decoder"), spec.get("pre_tokenizer")]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            found.add(part.get("type"))
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
    return found


def _byte_characters() -> dict[str, int]:
    """The printable stand-in of each byte in byte-level BPE: itself where it prints, else the next from U+0100 on."""
    printing = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printing)]
    return {chr(byte): byte for byte in printing} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


_BYTE_OF = _byte_characters()


def _from_byte_level(token: str) -> bytes:
    if all(c in _BYTE_OF for c in token):
        return bytes(_BYTE_OF[c] for c in token)
    return token.encode("utf-8", errors="surrogatepass")


def _from_sentence_piece(token: str) -> bytes:
    byte = _BYTE_TOKEN.fullmatch(token)
    if byte:
        return bytes([int(byte.group(1), 16)])
    return token.replace(_SPIECE_SPACE, " ").encode("utf-8", errors="surrogatepass")


def _from_word_piece(token: str) -> bytes:
    text = token.removeprefix("##") if token.startswith("##") else " " + token
    return text.encode("utf-8", errors="surrogatepass")
