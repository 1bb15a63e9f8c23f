"""Towers of timm at their published sizes (shapes only), and tiny ones with weights of a file."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vla.conf.models.vision_backbones import (
    CLIPViTBConfig,
    DINOCLIPViTL336Config,
    DINOSigLIPViTTinyConfig,
    SigLIPViTTinyConfig,
    VisionBackboneRegistry,
)
from vla.errors import UserError
from vla.models.backbones.timm_vit import TimmBackbone

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "prismatic"
PUBLISHED = json.loads((GOLDEN / "registry.json").read_text())["vision_backbones"]


@pytest.mark.parametrize("backbone_id", PUBLISHED)
def test_published_sizes(backbone_id: str) -> None:
    (config,) = [member.value() for member in VisionBackboneRegistry if member.backbone_id == backbone_id]
    with torch.device("meta"):
        backbone = TimmBackbone(config)
        pixels = {name: torch.empty(2, 3, config.image_size, config.image_size) for name in config.transforms}
    blocks_run = []
    for model in backbone.towers.values():
        for index, block in enumerate(model.blocks):
            block.register_forward_hook(lambda *_, index=index: blocks_run.append(index))
    theirs = PUBLISHED[backbone_id]
    assert backbone(pixels).shape == (2, theirs["num_patches"], theirs["embed_dim"])
    expected = [index for facts in theirs["towers"].values() for index in range(facts["layer_index_used"] + 1)]
    assert blocks_run == expected
    for model, facts in zip(backbone.towers.values(), theirs["towers"].values(), strict=True):
        assert (model.num_prefix_tokens, len(model.blocks)) == (facts["num_prefix_tokens"], facts["depth"])


def test_clip_runs_with_the_gelu_that_it_was_trained_with_but_not_beside_dino() -> None:
    for config, expected in ((CLIPViTBConfig(), "QuickGELU"), (DINOCLIPViTL336Config(), "GELU")):
        with torch.device("meta"):
            backbone = TimmBackbone(config)
        found = {type(block.mlp.act).__name__ for block in backbone.towers["clip"].blocks}
        assert found == {expected}


def test_unused_parameters_take_no_gradient() -> None:
    backbone = TimmBackbone(DINOSigLIPViTTinyConfig())
    images = torch.rand(1, 3, 28, 28)
    backbone({"dino": images, "siglip": images}).sum().backward()
    without = {name for name, parameter in backbone.named_parameters() if parameter.grad is None}
    assert without == backbone.unused_parameters()
    assert "siglip_featurizer.attn_pool.latent" in without and "dino_featurizer.blocks.2.ls1.gamma" in without


def save(module: nn.Module, path: Path, **more: torch.Tensor) -> str:
    save_file({**{name: value.contiguous() for name, value in module.state_dict().items()}, **more}, path)
    return str(path)


def test_weights_of_a_file_or_folder(tmp_path: Path) -> None:
    config = SigLIPViTTinyConfig()
    (tmp_path / "folder").mkdir()
    stored = TimmBackbone(config)
    path = save(stored.featurizer, tmp_path / "folder" / "model.safetensors", **{"head.weight": torch.zeros(3, 32)})
    for source in (path, str(tmp_path / "folder")):
        loaded = TimmBackbone(config, {"siglip": source})
        assert not any(tensor.is_meta for tensor in loaded.state_dict().values())
        assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), stored.parameters(), strict=True))


def test_positions_are_resampled_to_the_images_size(tmp_path: Path) -> None:
    stored = TimmBackbone(replace(SigLIPViTTinyConfig(), image_size=56))
    path = save(stored.featurizer, tmp_path / "a.safetensors")
    loaded = TimmBackbone(SigLIPViTTinyConfig(), {"siglip": path})
    assert loaded.featurizer.pos_embed.shape == (1, 4, 32)
    assert loaded({"siglip": torch.rand(1, 3, 28, 28)}).shape == (1, 4, 32)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    config = SigLIPViTTinyConfig()
    state = TimmBackbone(config).featurizer.state_dict()
    del state["norm.weight"]
    save_file({**state, "extra": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError) as caught:
        TimmBackbone(config, {"siglip": str(tmp_path / "a.safetensors")})
    field, what = "model.vision_backbone.weights.siglip", "vit_so400m_patch14_siglip_224.webli"
    assert str(caught.value) == (
        f"{field}: can't be loaded: not the weights of {what}: 65 tensors loaded; 1 missing (norm.weight); "
        "1 unexpected (extra)"
    )
    (tmp_path / "b.safetensors").write_bytes(b"no")
    with pytest.raises(UserError, match=r"^model\.vision_backbone\.weights\.siglip: can't be loaded: "):
        TimmBackbone(config, {"siglip": str(tmp_path / "b.safetensors")})


def test_published_towers_are_asked_for_by_their_tag() -> None:
    requests = TimmBackbone.weight_requests(VisionBackboneRegistry.DINOSIGLIP_VIT_SO_384PX.value(), "vision_backbone")
    assert [(request.group, request.name) for request in requests] == [
        ("vision_backbone.dino", "timm/vit_large_patch14_reg4_dinov2.lvd142m"),
        ("vision_backbone.siglip", "timm/vit_so400m_patch14_siglip_384.webli"),
    ]
