"""EfficientNets as an anomaly detector's backbone: feature maps of several strides.

Architecture: arXiv 1905.11946, built by timm with TensorFlow's SAME padding. UniAD's EfficientNet-b4 pads every picture
as one of 380 pixels would have to be; at other sizes that is another network than timm's, which pads by the picture.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vla.models.anomaly.efficientnet_names import read_efficientnet_b4
from vla.models.anomaly.part import Part
from vla.models.backbones.efficientnet import read_efficientnet
from vla.models.weights_source import download_file, reading_weights
from vla.torchvision_shim import prepare_torchvision

FIELD = "model.backbone_weights"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin", "efficientnet-lite0.pth", "efficientnet-b4-6ed6700e.pth")
STAGES = {1: 0, 2: 1, 3: 2, 4: 4, 5: 6}  # of an outlayer: the stage whose last block gives it
STRIDES = {1: 2, 2: 4, 3: 8, 4: 16, 5: 32}
B4_DEPTH = 1.8  # blocks, as a factor of EfficientNet-b0's
BN_EPS = 1e-3  # TensorFlow's


class EfficientNetMaps(Part):
    """
    The stem and the stages that the wanted maps need, with timm's parameter names. A map is what the last block of its
    stage gives, after projection, norm and skip.

    Args:
        options: `type`, `outlayers`, `weights`; for b4 `width` and `padding_size`. See `vla.conf.models.anomaly_parts`.

    Attributes:
        outplanes, outstrides: channels and strides of the maps.

    Raises:
        UserError: The weights can't be read, or are of another network.
    """

    def __init__(self, options: Any) -> None:
        super().__init__()
        is_b4 = "width" in options
        network = _get_b4(options.width) if is_b4 else _get_lite0()
        if options.weights is not None:
            with reading_weights(FIELD):
                path = Path(download_file(options.weights, WEIGHT_FILES))
                network.load_state_dict((read_efficientnet_b4 if is_b4 else read_efficientnet)(path, network))
        if is_b4 and options.padding_size is not None:
            fix_same_padding(network, options.padding_size)
        self.stages = [STAGES[layer] for layer in options.outlayers]
        self.outstrides = [STRIDES[layer] for layer in options.outlayers]
        self.outplanes = [_out_channels(network.blocks[stage]) for stage in self.stages]
        self.conv_stem, self.bn1 = network.conv_stem, network.bn1
        self.blocks = network.blocks[: self.stages[-1] + 1]
        self.gradient_checkpointing = False

    def forward(self, images: Tensor) -> list[Tensor]:
        """Pictures float [B, 3, H, W], normalised -> maps float32 [B, C_i, H / stride_i, W / stride_i].

        Always in float32: small differences between features are what is looked for.
        """
        with torch.autocast(images.device.type, enabled=False):
            return self._run(images.float())

    def _run(self, images: Tensor) -> list[Tensor]:
        # channels last is what convolutions on a CPU are fastest with
        x = self.bn1(self.conv_stem(images.contiguous(memory_format=torch.channels_last)))
        maps = []
        for number, stage in enumerate(self.blocks):
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(stage, x, use_reentrant=False)
            else:
                x = stage(x)
            if number in self.stages:
                maps.append(x)
        return maps

    def train(self, mode: bool = True) -> "EfficientNetMaps":
        """Like `nn.Module.train`, but norms keep the statistics that they came with: no picture's features depend on
        the others of its batch.
        """
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def fsdp_units(self) -> list[nn.Module]:
        """See `Part`: the stages."""
        return list(self.blocks)

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """See `Part`: recompute the stages."""
        self.gradient_checkpointing = enabled


class FixedPadConv2d(nn.Conv2d):
    """A convolution with padding of its own on each side, in the place of timm's that pads by the picture's size."""

    def __init__(self, conv: Any, pads: tuple[int, int, int, int]) -> None:
        super().__init__(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, 0, conv.dilation, conv.groups,
            conv.bias is not None,
        )  # fmt: skip
        self.weight, self.bias = conv.weight, conv.bias
        self.pads = pads  # left, right, top, bottom

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the convolution of the padded map."""
        return super().forward(nn.functional.pad(x, self.pads))


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """What TensorFlow's SAME puts before and after `size` places."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def fix_same_padding(network: Any, size: int) -> None:
    """Make timm's network pad every picture as a square one of `size` pixels, in place."""
    for parent in (network, *network.blocks.modules()):
        for name, conv in list(parent.named_children()):
            if type(conv).__name__ == "Conv2dSame":  # timm's for where the padding depends on the picture
                (kernel, _), (stride, _) = conv.kernel_size, conv.stride
                pads = same_padding(size, kernel, stride)
                setattr(parent, name, FixedPadConv2d(conv, (*pads, *pads)))
                size = -(-size // stride)


def _get_b4(width: float) -> Any:
    """timm's `tf_efficientnet_b4`, or the same with other channels.

    In UniAD's a stage's first block has no skip, even where its width would allow one (which b4's own never does).
    """
    prepare_torchvision()
    from timm.models.efficientnet import _gen_efficientnet  # the factory behind timm's ids, which fix the width

    network = _gen_efficientnet(
        "tf_efficientnet_b4", channel_multiplier=width, depth_multiplier=B4_DEPTH, bn_eps=BN_EPS, pad_type="same"
    )
    for stage in network.blocks:
        stage[0].has_skip = False
    return network


def _get_lite0() -> Any:
    prepare_torchvision()
    import timm

    return timm.create_model("tf_efficientnet_lite0", pretrained=False)


def _out_channels(stage: nn.Module) -> int:
    convolutions = [module for module in stage.modules() if isinstance(module, nn.Conv2d)]
    return convolutions[-1].out_channels  # a block ends with its projection
