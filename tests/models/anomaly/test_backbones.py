"""EfficientNets as UniAD's backbone: padding, names of weights, maps."""

import json
from pathlib import Path

import pytest
import torch
from easydict import EasyDict
from safetensors.torch import save_file
from uniad_golden import ATOL, GOLDEN, read_golden

from vla.errors import UserError
from vla.models.anomaly.backbones import (
    EfficientNetB4Maps,
    EfficientNetLite0Maps,
    FixedPadConv2d,
    channel_statistics,
    get_b4,
)
from vla.models.anomaly.efficientnet_names import timm_name, to_timm_names
from vla.models.anomaly.neck import MFCN
from vla.torchvision_shim import prepare_torchvision

PUBLISHED = json.loads((GOLDEN / "uniad_mvtec_state_dict.json").read_text())["backbone"]


def b4(width: float = 1.4, weights: str | None = None, padding_size: int | None = 380) -> EfficientNetB4Maps:
    return EfficientNetB4Maps(
        EasyDict(
            outlayers=[1, 2, 3, 4], weights=weights, width=width, padding_size=padding_size, standardize=False
        )  # fmt: skip
    ).eval()


def lite0(*layers: int, standardize: bool = False) -> EfficientNetLite0Maps:
    return EfficientNetLite0Maps(EasyDict(outlayers=list(layers), weights=None, standardize=standardize)).eval()


@pytest.fixture(scope="module")
def narrow():
    """The golden file and a quarter-wide b4 with its weights."""
    golden = read_golden("uniad_dev_backbone.safetensors")
    backbone = b4(golden.config["width_coefficient"])
    state = to_timm_names(golden.outputs("state_dict.backbone"), [len(stage) for stage in backbone.blocks])
    backbone.load_state_dict(state)
    return golden, backbone


def test_maps_and_neck(narrow):
    golden, backbone = narrow
    with torch.no_grad():
        maps = backbone(golden.tensors["input.image"])
    for ours, theirs in zip(maps, golden.outputs("output.features").values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=ATOL)
    assert backbone.outplanes == [8, 8, 16, 32] and backbone.outstrides == [2, 4, 8, 16]
    neck = MFCN(EasyDict(inplanes=backbone.outplanes, instrides=backbone.outstrides, outstrides=[16]))
    torch.testing.assert_close(neck(maps), golden.tensors["output.feature_align"], rtol=0, atol=ATOL)


def test_padding_by_the_picture_would_be_another_network(narrow):
    golden, backbone = narrow
    other = b4(golden.config["width_coefficient"], padding_size=None)
    other.load_state_dict(backbone.state_dict())
    with torch.no_grad():
        difference = (other(golden.tensors["input.image"])[2] - backbone(golden.tensors["input.image"])[2]).abs()
    assert difference.max() > 100 * ATOL


def test_padding_of_every_block_is_the_published_one():
    with torch.device("meta"):
        backbone = b4()
    pads = {0: backbone.conv_stem.pads}
    blocks = [block for stage in backbone.blocks for block in stage]
    assert tuple(PUBLISHED["stem_static_pad_lrtb"]) == pads[0]
    assert len(blocks) == 22
    for block, expected in zip(blocks, PUBLISHED["blocks"], strict=False):
        conv = block.conv_dw
        found = conv.pads if isinstance(conv, FixedPadConv2d) else (*conv.padding, *conv.padding)
        assert found == tuple(expected["dw_static_pad_lrtb"]), expected["idx"]
        assert (conv.kernel_size[0], conv.stride[0]) == (expected["kernel"], expected["stride"])


def test_names_and_shapes_are_those_of_the_published_state():
    with torch.device("meta"):
        network = get_b4(1.4)
    depths = [len(stage) for stage in network.blocks]
    ours = {name: list(value.shape) for name, value in network.state_dict().items()}
    theirs = {timm_name(name, depths): shape for name, shape in PUBLISHED["state_dict"].items()}
    assert ours == theirs and len(ours) == 706
    assert sum(parameter.numel() for parameter in network.parameters()) == PUBLISHED["total_params"]


def test_is_the_network_of_timms_id():
    """The factory behind timm's ids is a private function; it makes the same network."""
    prepare_torchvision()
    import timm

    with torch.device("meta"):
        theirs, ours = timm.create_model("tf_efficientnet_b4"), get_b4(1.4)
    assert str(ours) == str(theirs)
    skips = [[block.has_skip for stage in network.blocks for block in stage] for network in (ours, theirs)]
    assert skips[0] == skips[1] == [block["skip"] for block in PUBLISHED["blocks"]]


def test_files_of_the_port_and_of_timm_are_read(tmp_path: Path):
    torch.manual_seed(0)
    network = get_b4(0.25)
    depths = [len(stage) for stage in network.blocks]
    ours = network.state_dict()
    shapes = PUBLISHED["state_dict"]
    port = {name: ours[timm_name(name, depths)] for name in shapes}
    torch.save(port, tmp_path / "port.pth")
    torch.save(ours, tmp_path / "timm.pth")
    (tmp_path / "folder").mkdir()
    save_file(ours, tmp_path / "folder/model.safetensors")
    for name in ("port.pth", "timm.pth", "folder"):
        backbone = b4(0.25, str(tmp_path / name))
        assert all(torch.equal(value, ours[key]) for key, value in backbone.state_dict().items())
    with pytest.raises(UserError, match=r"model.backbone_weights: can't be loaded: conv_stem.weight is \[8, 3, 3, 3\]"):
        b4(0.5, str(tmp_path / "port.pth"))
    torch.save({"something": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="has no conv_stem.weight"):
        b4(0.25, str(tmp_path / "other.pth"))


@pytest.mark.parametrize("layers", [(1,), (2, 3), (1, 2, 3, 4, 5)])
def test_lite0_gives_the_maps_that_are_asked_for(layers):
    backbone = lite0(*layers)
    maps = backbone(torch.rand(1, 3, 64, 96))
    for features, planes, stride in zip(maps, backbone.outplanes, backbone.outstrides, strict=True):
        assert features.shape == (1, planes, 64 // stride, 96 // stride)


def test_gradient_checkpointing_gives_the_same_gradients():
    backbone = lite0(1, 2).eval()
    images, gradients = torch.rand(1, 3, 32, 32), []
    for enabled in (False, True):
        backbone.gradient_checkpointing = enabled
        backbone.zero_grad()
        sum(features.square().sum() for features in backbone(images)).backward()
        gradients.append(backbone.conv_stem.weight.grad.clone())
    torch.testing.assert_close(*gradients)


def test_channels_are_standardized_by_what_norms_say():
    """A norm that normalises its batch gives what `channel_statistics` says of it, exactly where one block is all."""
    torch.manual_seed(0)
    backbone = lite0(1, 2)
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 2.0)
            torch.nn.init.normal_(module.bias)
            module.train()
    with torch.no_grad():
        features = backbone(torch.rand(8, 3, 64, 64))[0]
    mean, std = channel_statistics(backbone.blocks[0])
    torch.testing.assert_close(features.mean((0, 2, 3)), mean, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(features.std((0, 2, 3)), std, rtol=1e-2, atol=1e-3)
    mean, std = channel_statistics(backbone.blocks[1])  # of two blocks, the second adds to the first
    last = [block.bn3 for block in backbone.blocks[1]]
    torch.testing.assert_close(mean, last[0].bias + last[1].bias)
    torch.testing.assert_close(std, (last[0].weight ** 2 + last[1].weight ** 2).sqrt())


def test_standardized_maps_keep_their_scale_with_the_weights():
    plain, scaled = lite0(2), lite0(2, standardize=True)
    scaled.load_state_dict(plain.state_dict() | {k: v for k, v in scaled.state_dict().items() if k[:2] in ("me", "st")})
    scaled.std_1.fill_(2.0)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = (plain(images)[0] - scaled.mean_1[:, None, None]) / 2
        torch.testing.assert_close(scaled(images)[0], expected)
    assert {"mean_1", "std_1"} <= set(scaled.state_dict())
