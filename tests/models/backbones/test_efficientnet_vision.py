"""EfficientNet-Lite0 as a vision-language model's backbone."""

from pathlib import Path

import pytest
import torch

from vla.conf.models.vision_backbones import EfficientNetLite0Config
from vla.errors import UserError
from vla.models.backbones.efficientnet import EfficientNetVision


def test_tokens_are_those_of_the_network_brought_to_unit_size() -> None:
    config = EfficientNetLite0Config(image_size=64)
    vision = EfficientNetVision(config).eval()
    images = torch.rand(2, 3, 64, 64)
    tokens = vision({"efficientnet": images * 2 - 1})
    assert tokens.shape == (2, config.num_patches, config.embed_dim) == (2, 16, 272)
    maps = vision.featurizer(images)
    expected = torch.nn.functional.layer_norm(maps.flatten(2).transpose(1, 2), (272,))
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-5)
    assert not vision.unused_parameters() and len(vision.fsdp_units()) == 5


def test_stages_decide_the_grid() -> None:
    config = EfficientNetLite0Config(image_size=64, stages=(4, 6))
    assert (config.patch_size, config.num_patches) == (32, 4)
    assert EfficientNetVision(config)({"efficientnet": torch.rand(1, 3, 64, 64)}).shape == (1, 4, config.embed_dim)
    with pytest.raises(ValueError, match="stages: must be increasing numbers of 0 to 6"):
        EfficientNetLite0Config(stages=(5, 4))
    with pytest.raises(ValueError, match="weights: must name towers of efficientnet, got 'siglip'"):
        EfficientNetLite0Config(weights={"siglip": "x"})


def test_its_weights_are_a_file(tmp_path: Path) -> None:
    (request,) = EfficientNetVision.weight_requests(EfficientNetLite0Config(), "vision_backbone")
    assert (request.group, request.field, request.name) == (
        "vision_backbone.efficientnet", "model.vision_backbone.weights.efficientnet", "weights/efficientnet-lite0.pth",
    )  # fmt: skip
    assert EfficientNetVision.weight_requests(EfficientNetLite0Config(weights={}), "vision_backbone") == []
    (tmp_path / "a.pth").write_bytes(b"no")
    with pytest.raises(UserError, match=r"^model\.vision_backbone\.weights\.efficientnet: can't be loaded: "):
        EfficientNetVision(EfficientNetLite0Config(), {"efficientnet": str(tmp_path / "a.pth")})
