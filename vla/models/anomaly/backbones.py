"""EfficientNets as an anomaly detector's backbone: feature maps of several strides.

Architecture: arXiv 1905.11946, built by timm with TensorFlow's SAME padding. UniAD's EfficientNet-b4 pads every picture
as one of 380 pixels would have to be; at other sizes that is another network than timm's, which pads by the picture.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vla.models.anomaly.efficientnet_names import read_efficientnet_b4
from vla.models.anomaly.part import Part
from vla.models.backbones.efficientnet import read_efficientnet
from vla.models.backbones.folded_norms import convolve, fold_norms
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
        network: timm's, with its weights; stages after the last map are left out.
        options: `outlayers`: which maps, of 1 to 5; `standardize`: see `channel_statistics`.

    Attributes:
        outplanes, outstrides: channels and strides of the maps.
    """

    def __init__(self, network: Any, options: Any) -> None:
        super().__init__()
        self.stages = [STAGES[layer] for layer in options.outlayers]
        self.outstrides = [STRIDES[layer] for layer in options.outlayers]
        self.outplanes = [_out_channels(network.blocks[stage]) for stage in self.stages]
        self.conv_stem, self.bn1 = network.conv_stem, network.bn1
        self.blocks = network.blocks[: self.stages[-1] + 1]
        fold_norms(self.blocks)
        self.standardize = options.standardize
        if self.standardize:  # kept with the weights: a backbone that trains does not move its own target's scale
            for number in self.stages:
                mean, std = channel_statistics(self.blocks[number])
                self.register_buffer(f"mean_{number}", mean.detach().clone())
                self.register_buffer(f"std_{number}", std.detach().clone())
        self.gradient_checkpointing = False

    def forward(self, images: Tensor) -> list[Tensor]:
        """Pictures float [B, 3, H, W], normalised -> maps float32 [B, C_i, H / stride_i, W / stride_i].

        Always in float32: small differences between features are what is looked for.
        """
        with torch.autocast(images.device.type, enabled=False):
            return self._run(images.float())

    def _run(self, images: Tensor) -> list[Tensor]:
        # channels last is what convolutions on a CPU are fastest with
        x = convolve(self.conv_stem, self.bn1, images.contiguous(memory_format=torch.channels_last))
        maps = []
        for number, stage in enumerate(self.blocks):
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(stage, x, use_reentrant=False)
            else:
                x = stage(x)
            if number in self.stages:
                maps.append(self._standardized(x, number) if self.standardize else x)
        return maps

    def _standardized(self, features: Tensor, number: int) -> Tensor:
        mean, std = getattr(self, f"mean_{number}"), getattr(self, f"std_{number}")
        return (features - mean[:, None, None]) / std[:, None, None]

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


class EfficientNetB4Maps(EfficientNetMaps):
    """
    Args:
        options: Fields of `vla.conf.models.anomaly_parts.EfficientNetB4PartConfig`.

    Raises:
        UserError: The weights can't be read, or are of another network.
    """

    def __init__(self, options: Any) -> None:
        network = get_b4(options.width)
        load_weights(network, options.weights, read_efficientnet_b4)
        if options.padding_size is not None:
            fix_same_padding(network, options.padding_size)
        super().__init__(network, options)


class EfficientNetLite0Maps(EfficientNetMaps):
    """
    Args:
        options: Fields of `vla.conf.models.anomaly_parts.EfficientNetLite0PartConfig`.

    Raises:
        UserError: The weights can't be read, or are of another network.
    """

    def __init__(self, options: Any) -> None:
        prepare_torchvision()
        import timm

        network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        load_weights(network, options.weights, read_efficientnet)
        super().__init__(network, options)


def channel_statistics(stage: nn.Sequential) -> tuple[Tensor, Tensor]:
    """
    Mean and standard deviation, [C], that the channels of a stage's output have on the pictures that it was trained on,
    as its own norms say: what each block adds has its last norm's bias as mean and its weight as deviation.
    """
    mean, variance = torch.zeros(()), torch.zeros(())
    for block in stage:
        norm = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)][-1]
        keeps: Any = getattr(block, "has_skip", False)
        mean = norm.bias + (mean if keeps else 0)
        variance = norm.weight.square() + (variance if keeps else 0)
    return mean, variance.clamp_min(1e-6).sqrt()


def load_weights(network: nn.Module, name: str | None, read: Callable[[Path, nn.Module], dict[str, Tensor]]) -> None:
    """
    Put weights into timm's network.

    Args:
        network: Changed in place.
        name: Local file or folder, or Hugging Face id; None leaves the network as it is.
        read: Tensors of a file under the network's names.

    Raises:
        UserError: The weights can't be read, or are of another network.
    """
    if name is None:
        return
    with reading_weights(FIELD):
        path = Path(download_file(name, WEIGHT_FILES))
        if path.is_dir():
            path = next((path / file for file in WEIGHT_FILES if (path / file).is_file()), path)
        network.load_state_dict(read(path, network))


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


def get_b4(width: float) -> Any:
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


def _out_channels(stage: nn.Module) -> int:
    convolutions = [module for module in stage.modules() if isinstance(module, nn.Conv2d)]
    return convolutions[-1].out_channels  # a block ends with its projection
