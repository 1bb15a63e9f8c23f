"""EfficientNet-Lite0 as a vision backbone."""

from collections import OrderedDict

import pytest
import torch

from vla.conf.models.components import EfficientNetConfig, GeometryEncoderConfig
from vla.errors import UserError
from vla.models.backbones.efficientnet import EfficientNetBackbone
from vla.torchvision_shim import prepare_torchvision

PATCHES = GeometryEncoderConfig(dim=64, use_pose=False)
ONE = EfficientNetConfig(weights=None, stages=(4,))


@pytest.fixture(scope="module")
def published():
    """timm's network at random, in evaluation mode."""
    prepare_torchvision()
    import timm

    torch.manual_seed(0)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # so that a swapped statistic would show
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network


def port_names(state: dict) -> OrderedDict:
    """The same tensors in the same order under the names of the original port."""
    return OrderedDict((f"_tensor_{number}", value) for number, value in enumerate(state.values()))


@pytest.mark.parametrize("stages", [(0,), (1,), (2,), (3,), (4,), (5,), (6,), (2, 4), (3, 4), (1, 2, 6)])
def test_sizes_are_as_configured(stages):
    config = EfficientNetConfig(weights=None, stages=stages)
    backbone = EfficientNetBackbone(config).eval()
    maps = backbone(torch.rand(1, 3, 64, 96))
    assert maps.shape == (1, config.feature_dim, 64 // config.patch_size, 96 // config.patch_size)


def test_is_timms_network_on_inputs_from_minus_one_to_one(published, tmp_path):
    torch.save(published.state_dict(), tmp_path / "w.pth")
    images = torch.rand(2, 3, 64, 64)
    x = published.bn1(published.conv_stem(2 * images - 1))
    for block in published.blocks[:5]:
        x = block(x)
    backbone = EfficientNetBackbone(ONE, str(tmp_path / "w.pth")).eval()
    with torch.no_grad():
        scale = float(x.abs().max())
        torch.testing.assert_close(backbone(images) / scale, x / scale, rtol=1e-5, atol=1e-5)


def test_files_of_the_port_are_read_in_order(published, tmp_path):
    torch.save(published.state_dict(), tmp_path / "timm.pth")
    torch.save(port_names(published.state_dict()), tmp_path / "port.pth")
    first, second = (
        EfficientNetBackbone(EfficientNetConfig(), str(tmp_path / f"{name}.pth")) for name in ("timm", "port")
    )
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_a_file_of_another_network_is_refused(published, tmp_path):
    state = port_names(published.state_dict())
    state["_tensor_0"] = torch.zeros(8, 3, 3, 3)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"model.efficientnet.weights: .*_tensor_0 is \[8, 3, 3, 3\]"):
        EfficientNetBackbone(EfficientNetConfig(), str(tmp_path / "other.pth"))
    (tmp_path / "no.pth").write_bytes(b"not a file of tensors")
    with pytest.raises(UserError, match="model.efficientnet.weights: can't be loaded: is no file"):
        EfficientNetBackbone(EfficientNetConfig(), str(tmp_path / "no.pth"))


def test_tokens_are_the_maps_row_by_row():
    backbone = EfficientNetBackbone(ONE).eval()
    images = torch.rand(2, 3, 3, 64, 64)
    with torch.no_grad():
        scene = backbone.encode_scene(images, PATCHES)
        maps = backbone(images[1, 2:])
    assert scene.tokens.shape == (2, 3, 16, 112) and scene.pose is None and scene.points is None
    torch.testing.assert_close(scene.tokens[1, 2, 4 * 1 + 3], maps[0, :, 1, 3], rtol=1e-4, atol=1e-5)


def test_finer_stages_are_folded_into_the_places_of_the_coarsest():
    torch.manual_seed(0)
    both = EfficientNetBackbone(EfficientNetConfig(weights=None, stages=(2, 4))).eval()
    fine = EfficientNetBackbone(EfficientNetConfig(weights=None, stages=(2,))).eval()
    fine.load_state_dict({name: both.state_dict()[name] for name in fine.state_dict()})
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        maps, places = both(images), fine(images)  # 4 x 4 places of 16 pixels, 8 x 8 of 8 pixels
    assert maps.shape == (1, 40 * 4 + 112, 4, 4)
    folded = maps[0, :160, 1, 3].reshape(40, 2, 2)  # channel, row, column inside the place
    torch.testing.assert_close(folded, places[0, :, 2:4, 6:8])


def test_autocast_changes_nothing():
    backbone = EfficientNetBackbone(EfficientNetConfig(weights=None)).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        plain = backbone(images)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(backbone(images), plain)


def test_gradient_checkpointing_gives_the_same_gradients():
    torch.manual_seed(0)
    backbone = EfficientNetBackbone(EfficientNetConfig(weights=None, stages=(1, 2))).eval()
    images, gradients = torch.rand(1, 3, 32, 32), []
    for enabled in (False, True):
        backbone.set_gradient_checkpointing(enabled)
        backbone.zero_grad()
        backbone(images).square().sum().backward()
        gradients.append(backbone.conv_stem.weight.grad.clone())
    torch.testing.assert_close(*gradients)
