"""The language model as an encoder, built at random, from a folder and from saved assets."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vla.conf.models.components import LLMConfig
from vla.errors import UserError
from vla.models.backbones import hf_models
from vla.models.backbones.llm import LLMBackbone
from vla.models.backbones.tokenizers import InstructionTokenizer
from vla.tokenization import get_tokenizer

CONFIG = LLMConfig(
    vocab_size=384, hidden_size=32, intermediate_size=64, num_layers=2, num_heads=4, num_kv_heads=2, max_position=128,
    rope_theta=12345.0, tokenizer="bytes",
)  # fmt: skip
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.fixture
def backbone() -> LLMBackbone:
    return LLMBackbone(CONFIG, max_tokens=16).eval()


@pytest.fixture
def folder(backbone: LLMBackbone, tmp_path: Path) -> Path:
    """A local folder as the hub has them: a causal model with its output layer, and a tokenizer."""
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM(backbone.model.config)
    model.model.load_state_dict(backbone.model.state_dict())
    model.save_pretrained(tmp_path)
    backbone.tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_sizes_reach_the_model(backbone: LLMBackbone) -> None:
    config = backbone.model.config
    assert (config.num_key_value_heads, config.num_hidden_layers, config.vocab_size) == (2, 2, 384)
    frequencies = backbone.model.rotary_emb.inv_freq  # of a head of 8 channels
    torch.testing.assert_close(frequencies, 12345.0 ** (-torch.arange(0, 8, 2) / 8))
    assert len(backbone.fsdp_units()) == 2 and config._attn_implementation == "sdpa"
    assert all(parameter.dtype == torch.float32 for parameter in backbone.parameters())
    assert not any("lm_head" in name for name, _ in backbone.named_parameters())


def test_padding_never_matters(backbone: LLMBackbone) -> None:
    texts = ["open", "open the drawer"]
    padded = backbone(*backbone.tokenize(texts, length=16))
    for row, text in enumerate(texts):
        alone = backbone(*backbone.tokenize([text]))[0]
        torch.testing.assert_close(padded[row, : len(alone)], alone)
    ids, mask = backbone.tokenize(texts, length=16)
    changed = backbone(torch.where(mask.bool(), ids, 77), mask)
    torch.testing.assert_close(changed[mask.bool()], padded[mask.bool()])


@pytest.mark.parametrize(
    ("architecture", "sizes"),
    [
        ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}),
        ("qwen2", SIZES | {"num_key_value_heads": 2}),
        ("gpt_neox", SIZES),
    ],
)
def test_other_causal_models(architecture: str, sizes: dict[str, int], tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, vocab_size=384, **sizes))
    model.save_pretrained(tmp_path)
    loaded = LLMBackbone(LLMConfig(tokenizer="bytes"), 16, weights=str(tmp_path)).eval()
    assert loaded.hidden_size == 32 and len(loaded.fsdp_units()) == 2
    ids, mask = loaded.tokenize(["open", "open the drawer"])
    torch.testing.assert_close(loaded(ids, mask)[0, : mask[0].sum()], loaded(*loaded.tokenize(["open"]))[0])


def test_from_a_folder(backbone: LLMBackbone, folder: Path) -> None:
    loaded = LLMBackbone(LLMConfig(weights=str(folder)), 16, weights=str(folder)).eval()
    assert loaded.hidden_size == 32  # the weights' own sizes hold
    inputs = backbone.tokenize(["open"])
    assert torch.equal(loaded(*inputs), backbone(*inputs))
    assert loaded.tokenize(["open"]).input_ids.tolist() == inputs.input_ids.tolist()


def test_damaged_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"^model\.llm\.weights: can't be loaded: ") as caught:
        LLMBackbone(LLMConfig(weights=str(folder)), 16, weights=str(folder))
    assert "\n" not in str(caught.value)


def test_shapes_of_a_folder_without_its_weights(folder: Path) -> None:
    with torch.device("meta"):
        assert LLMBackbone(LLMConfig(weights=str(folder)), 16).hidden_size == 32


def test_assets_rebuild_it(backbone: LLMBackbone, tmp_path: Path) -> None:
    backbone.save_assets(tmp_path)
    again = LLMBackbone(LLMConfig(weights="owner/unknown"), 16, assets=tmp_path)
    again.load_state_dict(backbone.state_dict())
    assert again.tokenize(["open"]).input_ids.tolist() == backbone.tokenize(["open"]).input_ids.tolist()


def test_gguf_names_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf_models, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs gguf and accelerate: pip install \.\[gguf\]$"):
        LLMBackbone(CONFIG, 16, weights="model.gguf")


def test_vocabulary_must_hold_the_tokenizer() -> None:
    with pytest.raises(UserError, match=r"model.llm.tokenizer: has 259 ids, .* vocabulary is 100"):
        LLMBackbone(replace(CONFIG, vocab_size=100), 16)


def test_gradient_checkpointing_gives_the_same_gradients(backbone: LLMBackbone) -> None:
    backbone.train()
    inputs, gradients = backbone.tokenize(["open", "close it"]), []
    for enabled in (False, True, False):
        backbone.set_gradient_checkpointing(enabled)
        backbone.zero_grad()
        backbone(*inputs).square().sum().backward()
        gradients.append(backbone.model.embed_tokens.weight.grad.clone())
    assert torch.equal(gradients[0], gradients[1]) and torch.equal(gradients[0], gradients[2])


def test_bytes_tokenizer_round_trip(tmp_path: Path) -> None:
    tokenizer = get_tokenizer("bytes")
    assert len(tokenizer) == 259
    ids = tokenizer("hé")["input_ids"]
    assert ids == [byte + 3 for byte in "hé".encode()] + [tokenizer.eos_token_id]
    tokenizer.save_pretrained(tmp_path)
    assert get_tokenizer(str(tmp_path))("hé")["input_ids"] == ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "hé"


def test_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^model.llm.tokenizer: no tokenizer in .*'bytes'$"):
        get_tokenizer(str(tmp_path))


class _NoSpecialTokens:
    """A tokenizer like GPT-2's: no padding token, nothing for an empty text."""

    pad_token_id, bos_token_id, eos_token_id = None, None, 7

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) for letter in text]}


def test_instructions_without_special_tokens() -> None:
    tokenize = InstructionTokenizer(_NoSpecialTokens(), max_tokens=4)
    text = tokenize(["ab", ""])
    assert text.input_ids.tolist() == [[97, 98], [7, 7]]
    assert text.attention_mask.tolist() == [[1, 1], [1, 0]]


def test_long_instructions_are_cut_and_counted(capfd: pytest.CaptureFixture[str]) -> None:
    tokenize = InstructionTokenizer(_NoSpecialTokens(), max_tokens=4)
    assert tokenize.lengths(["abcdef", "abcdef", "uvwxyz", "abcd"]) == [4, 4, 4, 4]
    assert tokenize.num_truncated == 2  # distinct ones
    err = capfd.readouterr().err
    assert "cut from 6 to 4 tokens (2 so far" in err and "max_instruction_tokens" in err
