"""Published folders in and out, and backbones of Hugging Face."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vla.conf.models.nanovlm import (
    NanoLMConfig,
    NanoVLM222MConfig,
    NanoVLM230MConfig,
    NanoVLM450MConfig,
    NanoVLM460MConfig,
    NanoVLMConfig,
    NanoVLMTinyConfig,
)
from vla.conf.models.nanovlm_published import from_published, to_published
from vla.conf.models.siglip import SIGLIP, SigLIPConfig, SigLIPTinyConfig
from vla.errors import UserError
from vla.models.backbones.nano_lm import NanoLM
from vla.models.backbones.siglip import SigLIPBackbone
from vla.models.components.document_attention import Visibility
from vla.models.materialize import get_model
from vla.models.vlms.nanovlm import NanoVLM
from vla.models.weights.nanovlm import load_published, read_published_config, save_published
from vla.models.weights.nanovlm_backbones import load_llama
from vla.models.weights_source import WeightsNotFound


def test_the_published_configuration_key_by_key(golden: Callable[[str], Any]) -> None:
    listing = golden("nanovlm_state_dict")
    written = to_published(NanoVLM460MConfig())
    assert written == listing["config_json"] and list(written) == listing["config_json_key_order"]
    assert from_published(listing["config_json"]) == replace(
        NanoVLMConfig(), llm_backbone=replace(NanoLMConfig(), tokenizer="HuggingFaceTB/SmolLM2-360M-Instruct")
    )


def test_old_and_odd_configurations(golden: Callable[[str], Any]) -> None:
    content = golden("nanovlm_state_dict")["config_json"]
    with_more = {**content, "lm_eos_token_id": 0, "something": [1]}
    assert from_published(with_more) == from_published(content)
    assert from_published({"lm_hidden_dim": 960, "mp_image_token_length": 64}) == NanoVLMConfig()
    v01 = {
        "vit_img_size": 224, "lm_hidden_dim": 576, "lm_inter_dim": 1536, "lm_n_heads": 9, "lm_n_kv_heads": 3,
        "lm_n_blocks": 30, "lm_vocab_size": 49152, "lm_eos_token_id": 0, "mp_pixel_shuffle_factor": 2,
        "vit_model_type": "google/siglip-base-patch16-224", "lm_model_type": "HuggingFaceTB/SmolLM2-135M",
    }  # fmt: skip
    config = from_published(v01)
    published = NanoVLM222MConfig()
    assert replace(config.processor, max_length=1024) == published.processor
    assert (config.vision_backbone.weights, config.tokens_per_tile) == (published.vision_backbone.weights, 49)
    assert vars(config.llm_backbone) == vars(published.llm_backbone)
    v02 = {
        "vit_img_size": 256, "lm_base_vocab_size": 49152, "extra_token_amount": 1, "lm_vocab_size": 49153,
        "vlm_extra_tokens": {"image_token": "<|image|>"}, "mp_pixel_shuffle_factor": 2, "mp_image_token_length": 64,
    }  # fmt: skip
    processor = from_published(v02).processor
    assert (processor.image_tokens, processor.max_image_side, processor.prompt) == ("single", 256, "chatml")


def without_sources(config: NanoVLMConfig) -> NanoVLMConfig:
    """A configuration with what becomes another name for the same: kinds of backbones, and a tokenizer's default."""
    llm = config.llm_backbone
    vision = SigLIPConfig(**vars(config.vision_backbone))
    return NanoVLMConfig(
        vision_backbone=vision, llm_backbone=replace(llm, tokenizer=llm.tokenizer or llm.weights),
        pixel_shuffle=config.pixel_shuffle, processor=config.processor,
    )  # fmt: skip


@pytest.mark.parametrize(
    "kind", [NanoVLM460MConfig, NanoVLM230MConfig, NanoVLM450MConfig, NanoVLM222MConfig, NanoVLMTinyConfig],
    ids=lambda kind: kind.model_id,
)  # fmt: skip
def test_every_registered_configuration_comes_back_as_it_was_written(kind: Any) -> None:
    written = json.loads(json.dumps(to_published(kind())))
    assert from_published(written) == without_sources(kind())
    length = kind().processor.max_length - (49 if kind is NanoVLM222MConfig else 0)  # v0.1 counts text alone
    assert written["lm_max_length"] == length


@pytest.mark.parametrize("tied", [True, False])
def test_a_folder_is_written_and_read_as_published(
    case, tied: bool, tmp_path: Path, golden: Callable[[str], Any]
) -> None:
    config = replace(case.config, llm_backbone=replace(case.config.llm_backbone, tie_embeddings=tied))
    model = get_model(config, seed=5) if not tied else case.model()
    save_published(model, config, tmp_path / "out")
    stored = load_file(tmp_path / "out" / "model.safetensors")
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        metadata = file.metadata() or {}
    published = golden("nanovlm_state_dict")["saved_file"]
    if tied:
        assert metadata == published["safetensors_metadata"] and stored.keys() == case.weights.keys()
        assert all(torch.equal(stored[name], value) for name, value in case.weights.items())
    else:
        assert not metadata and {"decoder.token_embedding.weight", "decoder.head.weight"} <= stored.keys()
    content = (tmp_path / "out" / "config.json").read_text()
    assert content == json.dumps(json.loads(content), indent=4)

    read = read_published_config(tmp_path / "out", NanoVLMTinyConfig())
    again = get_model(replace(read, pretrained=True, weights=str(tmp_path / "out")), seed=9)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    assert (again.llm_backbone.head.weight is again.llm_backbone.token_embedding.weight) == tied


def test_folders_that_do_not_fit_are_refused_in_a_line(case, tmp_path: Path) -> None:
    model = case.model()
    save_published(model, case.config, tmp_path)
    other = NanoVLM(NanoVLMTinyConfig())
    with pytest.raises(UserError, match=r"model\.weights: '.*' does not fit this model: .*mis-shaped"):
        load_published(other, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["decoder.norm.bias"] = tensors.pop("decoder.norm.weight")
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"1 missing \(llm_backbone.norm.weight\); 1 unexpected"):
        load_published(model, tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(UserError, match="not the configuration of a nanoVLM .there is no lm_hidden_dim"):
        read_published_config(tmp_path)
    with pytest.raises(UserError, match="not the configuration of a nanoVLM"):
        read_published_config(tmp_path / "absent")


@pytest.mark.parametrize("source", ["./nowhere", "a/b/c", "nobody/nothing"])
def test_a_model_that_is_nowhere(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsNotFound, match=f"^source: '{source}' (does not exist|is neither a local folder)"):
        NanoVLM.from_pretrained(source)


def test_a_tower_that_the_format_does_not_know(tmp_path: Path) -> None:
    from vla.conf.models.vision_backbones import SigLIPViTTinyConfig

    tiny = NanoVLMTinyConfig()
    vision = SigLIPViTTinyConfig()
    processor = replace(tiny.processor, max_image_side=vision.image_size)
    config = replace(tiny, vision_backbone=vision, pixel_shuffle=1, processor=processor)
    with pytest.raises(UserError, match="has no place for 'siglip-vit-tiny'"):
        save_published(NanoVLM(config), config, tmp_path)


def hf_siglip(folder: Path, prefix: str = "vision_model.") -> Any:
    from transformers import SiglipVisionConfig, SiglipVisionModel

    sizes = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3}
    torch.manual_seed(0)
    model = SiglipVisionModel(SiglipVisionConfig(**sizes, image_size=32, patch_size=8)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    tensors = {f"{prefix}{name.removeprefix('vision_model.')}": value for name, value in model.state_dict().items()}
    if prefix:
        tensors["text_model.final_layer_norm.weight"] = torch.ones(3)  # of the other tower
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    return model


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["vision_model.", ""], ids=["as released", "a tower saved by transformers 5"])
def test_siglip_of_hugging_face(tmp_path: Path, prefix: str) -> None:
    theirs = hf_siglip(tmp_path / "siglip", prefix)
    ours = SigLIPBackbone(SigLIPTinyConfig(), {SIGLIP: str(tmp_path / "siglip")})
    images = torch.rand(2, 3, 32, 32)
    expected = theirs(pixel_values=images).last_hidden_state
    torch.testing.assert_close(ours({SIGLIP: images}), expected, rtol=0, atol=1e-5)
    with pytest.raises(UserError, match=r"model\.vision_backbone\.weights\.siglip: .*mis-shaped.*pass the sizes"):
        SigLIPBackbone(SigLIPTinyConfig(image_size=64), {SIGLIP: str(tmp_path / "siglip")})


@torch.no_grad()
@pytest.mark.parametrize("tied", [True, False])
def test_llama_of_hugging_face(tmp_path: Path, tied: bool) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = replace(NanoVLMTinyConfig().llm_backbone, tie_embeddings=tied, rope_theta=5000.0)
    sizes = LlamaConfig(
        vocab_size=259, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, rms_norm_eps=1e-5, rope_theta=5000.0, tie_word_embeddings=tied,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = LlamaForCausalLM(sizes).eval()
    theirs.save_pretrained(tmp_path)
    ours = NanoLM(config).eval()
    before = ours.token_embedding.weight.clone()
    load_llama(ours, str(tmp_path))
    assert torch.equal(ours.token_embedding.weight[259:], before[259:])
    ids = torch.randint(0, 259, (2, 9), generator=torch.Generator().manual_seed(0))
    logits = ours.logits(ours(ours.embed(ids), torch.arange(9).expand(2, -1), 8, Visibility()))
    torch.testing.assert_close(logits[..., :259], theirs(ids).logits, rtol=0, atol=1e-5)
    wrong = NanoLM(replace(config, hidden_size=32, rope_theta=10000.0))
    with pytest.raises(
        UserError, match="pass --model.llm_backbone.hidden_size 64 --model.llm_backbone.rope_theta 5000"
    ):
        load_llama(wrong, str(tmp_path))


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("Granite", {}, "must be of kind llama or mistral without a sliding window, got 'granite'"),
        ("SmolLM3", {"pad_token_id": None}, "got 'smollm3'"),
        ("Mistral", {}, "got 'mistral'"),
        ("Llama", {"hidden_act": "gelu"}, "must have the activation silu, got 'gelu'"),
    ],
)
def test_models_that_only_look_like_llama(kind: str, more: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Their weights have the same names and shapes, but they compute something else from them."""
    import transformers

    if not hasattr(transformers, f"{kind}Config"):
        pytest.skip(f"this version of transformers has no {kind}")
    sizes = {
        "vocab_size": 259, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True,
    }  # fmt: skip
    config = getattr(transformers, f"{kind}Config")(**sizes, **more)
    getattr(transformers, f"{kind}ForCausalLM")(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=rf"model\.llm_backbone\.weights: .*{message}"):
        load_llama(NanoLM(NanoVLMTinyConfig().llm_backbone), str(tmp_path))


def test_saved_as_published_and_uploaded(case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = case.model()
    model.save_pretrained(tmp_path / "out")
    again = NanoVLM.from_pretrained(tmp_path / "out")
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    uploaded: dict[str, Any] = {}

    class Hub:
        def create_repo(self, repository: str, **options: Any) -> None:
            uploaded["repository"] = repository, options

        def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> str:
            uploaded["files"] = sorted(path.name for path in folder_path.iterdir())
            uploaded["card"] = (folder_path / "README.md").read_text()
            return f"https://hub/{repo_id}"

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setattr("vla.models.weights.hub.check_hub", lambda: None)
    assert model.push_to_hub("me/small", private=True) == "https://hub/me/small"
    assert uploaded["repository"] == ("me/small", {"private": True, "exist_ok": True})
    assert uploaded["files"] == ["README.md", "config.json", "model.safetensors"] and "# small" in uploaded["card"]
