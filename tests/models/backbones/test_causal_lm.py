"""Language models that continue text: families, the padded token table, and where shapes come from."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from vla.conf.models.language import (
    CausalLMConfig,
    LlamaTinyConfig,
    Mistral7BPureConfig,
    Phi2Config,
    SmolLM2InstructConfig,
)
from vla.errors import UserError
from vla.models.backbones.causal_lm import CausalLM

TOKENIZER = Path(__file__).resolve().parents[2] / "golden" / "prismatic" / "tokenizer"  # 512 ids
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SMALL = {"hidden_size": 80, "intermediate_size": 64, "num_layers": 2, "num_heads": 4}


def folder_of(architecture: str, rows: int, path: Path) -> Path:
    """A local folder as the hub has them: a causal model with `rows` rows, and a tokenizer of 512 ids."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, vocab_size=rows, **SIZES))
    model.save_pretrained(path)
    PreTrainedTokenizerFast.from_pretrained(str(TOKENIZER)).save_pretrained(path)
    return path


@pytest.mark.parametrize("rows", [512, 700], ids=["extended", "cut"])
@pytest.mark.parametrize("architecture", ["llama", "phi"])
def test_the_pad_token_gets_a_row(architecture: str, rows: int, tmp_path: Path) -> None:
    folder = str(folder_of(architecture, rows, tmp_path))
    config = CausalLMConfig(weights=folder) if architecture == "llama" else Phi2Config(weights=folder)
    llm = CausalLM(config, weights=folder).eval()
    assert llm.vocab_size == 576 == len(llm.llm.get_input_embeddings().weight) == llm.llm.config.vocab_size
    assert len(llm.tokenizer) == 513 and llm.tokenizer.pad_token_id == 512
    assert llm.tokenizer.pad_token == config.pad_token
    original = AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = torch.tensor([[1, 40, 300, 511]])
    logits = llm.logits(llm(llm.embed(ids), torch.ones_like(ids).bool()))
    torch.testing.assert_close(logits[..., :512], original(ids).logits[..., :512])


def test_a_model_with_a_pad_token_of_its_own_stays_as_it_is(tmp_path: Path) -> None:
    folder = str(folder_of("llama", 700, tmp_path))
    assert CausalLM(SmolLM2InstructConfig(weights=folder), weights=folder).vocab_size == 700


def test_shapes_of_a_folder_without_its_weights(tmp_path: Path) -> None:
    folder = folder_of("llama", 512, tmp_path)
    for path in folder.glob("*.safetensors"):
        path.unlink()
    llm = CausalLM(CausalLMConfig(weights=str(folder)))
    assert (llm.hidden_size, llm.vocab_size) == (32, 576)


@pytest.mark.parametrize("config_class", [Mistral7BPureConfig, Phi2Config, SmolLM2InstructConfig])
def test_families_at_random(config_class: type[CausalLMConfig]) -> None:
    llm = CausalLM(config_class(weights=None, vocab_size=700, num_kv_heads=2, **SMALL)).eval()
    expected = {"mistral": "MistralForCausalLM", "phi": "PhiForCausalLM", "llama": "LlamaForCausalLM"}
    assert type(llm.llm).__name__ == expected[config_class.architecture]
    turned = 2 * len(llm.llm.model.rotary_emb.inv_freq)  # channels of a head that tell positions
    assert turned == (8 if config_class is Phi2Config else 20)
    names = set(llm.state_dict())
    assert "llm.lm_head.weight" in names and any(name.startswith("llm.model.layers.1.") for name in names)
    assert len(llm.fsdp_units()) == 2
    ids = torch.tensor([[3, 4, 5]])
    assert llm.logits(llm(llm.embed(ids), None)).shape == (1, 3, llm.vocab_size)


def test_who_sees_whom_can_be_said() -> None:
    llm = CausalLM(LlamaTinyConfig()).eval()
    embeds = torch.randn(2, 5, 48)
    causal = torch.ones(5, 5, dtype=torch.bool).tril()[None, None].expand(2, 1, 5, 5)
    torch.testing.assert_close(llm(embeds, causal), llm(embeds, torch.ones(2, 5, dtype=torch.bool)))
    both_ways = llm(embeds, torch.ones(2, 1, 5, 5, dtype=torch.bool))
    changed = embeds.clone()
    changed[:, -1] += 1
    assert not torch.allclose(llm(changed, torch.ones(2, 1, 5, 5, dtype=torch.bool))[:, 0], both_ways[:, 0])


def test_a_tokenizer_with_more_ids_than_rows_is_refused() -> None:
    llm = CausalLM(replace(LlamaTinyConfig(), vocab_size=100))
    with pytest.raises(UserError, match=r"^model\.llm_backbone\.tokenizer: has 260 ids, .* vocabulary is 128$"):
        _ = llm.tokenizer
