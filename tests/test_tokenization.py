"""Tokenizers as their files describe them, under every version of transformers."""

import json
from pathlib import Path

import pytest

from vla.errors import UserError
from vla.tokenization import (
    BYTES,
    add_pad_token,
    encode,
    first_id,
    get_tokenizer,
    marks_words,
    pad_id,
    tokenizer_source,
)

GOLDEN = Path(__file__).parent / "golden" / "prismatic" / "tokenizer"
BOS, EOS = 1, 2


@pytest.fixture
def byte_level(tmp_path: Path) -> Path:
    """A tokenizer like phi-2's: letters are bytes, no token is added, one token begins and ends sequences."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(letters, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    end = "<|endoftext|>"
    config = {"tokenizer_class": "CodeGenTokenizer", "bos_token": end, "eos_token": end, "unk_token": end}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    return tmp_path


def test_the_file_is_read_as_it_is() -> None:
    """transformers 5 makes a tokenizer of bytes out of this one, since its class is said to be Llama's."""
    tokenizer = get_tokenizer(str(GOLDEN))
    assert encode(tokenizer, "a cat sitting on the ground</s>", first=True) == [BOS, 59, 81, 82, 49, 38, 83, EOS]
    assert encode(tokenizer, "a cat sitting on the ground</s>", first=False) == [59, 81, 82, 49, 38, 83, EOS]
    assert encode(tokenizer, "<s>a cat", first=True) == [BOS, 59, 81]
    assert encode(tokenizer, "", first=True) == [BOS]


def test_a_saved_tokenizer_is_the_same(tmp_path: Path) -> None:
    tokenizer = add_pad_token(get_tokenizer(str(GOLDEN)), "<PAD>")
    assert (tokenizer.pad_token_id, len(tokenizer), tokenizer.padding_side) == (512, 513, "right")
    tokenizer.save_pretrained(tmp_path)
    loaded = add_pad_token(get_tokenizer(str(tmp_path)), "<PAD>")
    assert (loaded.pad_token_id, len(loaded), pad_id(loaded)) == (512, 513, 512)
    text = "What is shown in the picture?\nOut: </s><PAD>"
    assert encode(loaded, text, first=True) == encode(tokenizer, text, first=True)


def test_bytes() -> None:
    tokenizer = add_pad_token(get_tokenizer(BYTES), None)
    assert encode(tokenizer, "hé</s>", first=False) == [*(byte + 3 for byte in "hé".encode()), 1]
    assert encode(tokenizer, "a", first=True) == [first_id(tokenizer), ord("a") + 3] == [1, 100]
    assert pad_id(tokenizer) == 0 and not marks_words(tokenizer)
    assert len(add_pad_token(tokenizer, "<PAD>")) == 260


def test_behaviour_not_class(byte_level: Path) -> None:
    """Both files say that they are of a class that transformers 5 has no more, or makes otherwise."""
    assert marks_words(get_tokenizer(str(GOLDEN)))
    tokenizer = get_tokenizer(str(byte_level))
    assert not marks_words(tokenizer)
    end = first_id(tokenizer)
    assert end == tokenizer.eos_token_id == pad_id(tokenizer)
    written = encode(tokenizer, "<|endoftext|>Input", first=True)
    assert written == encode(tokenizer, "Input", first=True) and written.count(end) == 1
    assert tokenizer.decode(encode(tokenizer, "Output: ", first=False)) == "Output: "


def test_no_tokenizer_names_the_field(tmp_path: Path) -> None:
    for source in (str(tmp_path), str(tmp_path / "none.gguf"), "nobody/nothing"):
        with pytest.raises(UserError, match=r"^model\.llm_backbone\.tokenizer: no tokenizer in .*") as raised:
            get_tokenizer(source, "model.llm_backbone.tokenizer")
        assert "\n" not in str(raised.value) and source in str(raised.value)


GGUF = Path(__file__).parents[1] / "weights" / "smollm2-135m-instruct.gguf"


@pytest.mark.skipif(not GGUF.exists(), reason="needs scripts/weights.py")
def test_gguf_is_the_same_once_saved(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    tokenizer = get_tokenizer(str(GGUF))
    assert len(add_pad_token(tokenizer, "<PAD>")) == 49153 and len(get_tokenizer(str(GGUF))) == 49152
    tokenizer.save_pretrained(tmp_path)
    loaded = get_tokenizer(str(tmp_path))
    text = "In: how many 12 bowls?\nOut: h\u00e9llo  world <|im_end|>"
    assert encode(loaded, text, first=True) == encode(tokenizer, text, first=True)
    assert not marks_words(loaded) and loaded.eos_token == "<|im_end|>"


def test_a_tokenizer_must_begin_sequences_somehow() -> None:
    class Nothing:
        bos_token_id = eos_token_id = None

    with pytest.raises(UserError, match="neither a beginning"):
        first_id(Nothing())


def test_which_tokenizer_a_configuration_means(tmp_path: Path) -> None:
    here = str(tmp_path)
    assert tokenizer_source(None, "owner/name", pretrained=True) == "owner/name"
    assert tokenizer_source(here, "owner/name", pretrained=True) == here
    assert tokenizer_source(BYTES, "owner/name", pretrained=True) == BYTES
    assert tokenizer_source(None, None, pretrained=True) == BYTES
    # at random: nothing is looked up elsewhere
    assert tokenizer_source(None, "owner/name", pretrained=False) == BYTES
    assert tokenizer_source("owner/name", here, pretrained=False) == here
    assert tokenizer_source(BYTES, here, pretrained=False) == BYTES
