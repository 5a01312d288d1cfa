"""Token texts: exact bytes for byte-level BPE and SentencePiece, best effort for WordPiece."""

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from autointerp.format import SpecialToken, unescape
from autointerp.subject.vocabulary import encode_texts, escaped_vocabulary
from tests.unit.subject.tiny import make_tokenizer

TOKENIZER = make_tokenizer()
VOCABULARY = escaped_vocabulary(TOKENIZER, len(TOKENIZER) + 2)


@given(st.text(max_size=40))
def test_tokens_join_to_the_text(text: str) -> None:
    (ids,) = encode_texts(TOKENIZER, [text])
    pieces = [unescape(VOCABULARY[i]) for i in ids]
    assert b"".join(piece for piece in pieces if isinstance(piece, bytes)) == text.encode()


def test_text_cannot_speak_for_a_special_token() -> None:
    """A corpus that mentions the special token's name must not put that token into a row."""
    (ids,) = encode_texts(TOKENIZER, ["a <|bos|> b"])
    assert 0 not in ids
    assert unescape(VOCABULARY[0]) == SpecialToken("<|bos|>")


def test_ids_without_a_token_are_special() -> None:
    assert unescape(VOCABULARY[-1]) == SpecialToken(f"unused-{len(VOCABULARY) - 1}")
    assert len(VOCABULARY) == len(TOKENIZER) + 2


def test_every_text_is_its_own() -> None:
    assert len(set(VOCABULARY)) == len(VOCABULARY)


def test_no_texts() -> None:
    assert encode_texts(TOKENIZER, []) == []


def test_sentence_piece() -> None:
    vocabulary = {"<unk>": 0, "<s>": 1, "<0x0A>": 2, "▁the": 3, "cat": 4, "▁▁": 5}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True, unk_token="<unk>"))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>")
    assert escaped_vocabulary(wrapped, 6) == ["\\s{<unk>}", "\\s{<s>}", "\\n", " the", "cat", "  "]


def test_word_piece() -> None:
    vocabulary = {"[UNK]": 0, "the": 1, "##s": 2}
    tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")
    assert escaped_vocabulary(wrapped, 3) == ["\\s{[UNK]}", " the", "s"]


def test_added_words_are_text_and_added_marks_are_special() -> None:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["\n\n\n"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
    vocabulary = escaped_vocabulary(tokenizer, len(tokenizer))
    assert vocabulary[-2:] == ["\\n\\n\\n", "\\s{<|turn|>}"]


def test_whole_words_stand_apart() -> None:
    """Without a mark of any kind passages were read as `thecatsat`."""
    tokenizer = Tokenizer(models.WordLevel(vocab={"a": 0, "<0x5G>": 1}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    assert escaped_vocabulary(PreTrainedTokenizerFast(tokenizer_object=tokenizer), 2) == [" a", " <0x5G>"]


def test_marks_of_a_words_end_are_spaces() -> None:
    """GPT-1 and CLIP: `the</w>cat</w>` is no text."""
    vocabulary = {"<unk>": 0, "the</w>": 1, "ca": 2, "t</w>": 3}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    assert escaped_vocabulary(wrapped, 4) == ["\\s{<unk>}", "the ", "ca", "t "]


def test_marks_of_a_word_that_goes_on() -> None:
    vocabulary = {"<unk>": 0, "the": 1, "ca@@": 2, "t": 3}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    assert escaped_vocabulary(wrapped, 4) == ["\\s{<unk>}", "the ", "ca", "t "]
