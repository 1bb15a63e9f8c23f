"""Norms that are part of the convolutions before them give what they give by themselves."""

import copy

import pytest
import torch
from torch import nn

from vla.conf.models.components import EfficientNetConfig
from vla.models.anomaly.backbones import fix_same_padding, get_b4
from vla.models.backbones.efficientnet import EfficientNetBackbone
from vla.models.backbones.folded_norms import convolve, fold_norms
from vla.torchvision_shim import prepare_torchvision


def with_statistics(network: nn.Module) -> nn.Module:
    """As if it had been trained: no norm does nothing."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5, generator=generator)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(std=0.2, generator=generator)
    return network


@pytest.mark.parametrize("padding_size", [None, 380])
def test_blocks_of_b4_give_the_same(padding_size):
    """With squeeze-and-excitation, SiLU, and both ways to pad."""
    network = with_statistics(get_b4(0.25)).eval()
    if padding_size is not None:
        fix_same_padding(network, padding_size)
    blocks, folded = network.blocks, copy.deepcopy(network.blocks)
    fold_norms(folded)
    assert [name for name, _ in folded.named_parameters()] == [name for name, _ in blocks.named_parameters()]
    x = torch.randn(2, network.conv_stem.out_channels, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, got = blocks(x), folded(x)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert not torch.equal(got, expected)  # it was folded
    torch.testing.assert_close(folded(x), expected, rtol=0, atol=0)  # with gradients nothing is


def test_lite0_gives_the_same_and_learns_as_before():
    backbone = with_statistics(EfficientNetBackbone(EfficientNetConfig())).eval()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    expected = backbone(images)
    with torch.no_grad():
        torch.testing.assert_close(backbone(images), expected, rtol=1e-4, atol=1e-4)
        backbone.train()(images)  # norms see the batch, and keep its statistics
        assert not torch.allclose(backbone.eval()(images), expected)
    backbone(images).sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())


def test_a_convolution_with_a_bias():
    prepare_torchvision()
    from timm.layers import BatchNormAct2d

    convolution, norm = nn.Conv2d(3, 4, 3), with_statistics(BatchNormAct2d(4)).eval()
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(convolve(convolution, norm, x), norm(convolution(x)))
