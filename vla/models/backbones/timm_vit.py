"""Vision transformers of timm as a backbone: patch tokens of their second-to-last blocks, side by side.

B images, P patches, C channels of all towers together.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vla.conf.models.vision import Tower, VisionBackboneConfig
from vla.models.weights.report import match_weights
from vla.models.weights_source import WeightsRequest, download_file, reading_weights
from vla.torchvision_shim import prepare_torchvision

FIELD = "model.vision_backbone.weights"  # configuration field that names weights, by tower
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_AFTER_BLOCKS = ("norm", "fc_norm", "attn_pool", "head")  # modules of timm's that run after the blocks


class TimmBackbone(nn.Module):
    """
    One or two towers, whole, under the published names `featurizer.*` or `<tower>_featurizer.*`.

    Published projectors were trained on the output of the second-to-last block as it is: the last block, the final
    norm and the pooling are kept, so that checkpoints fit, but never run.

    Args:
        config: Which towers, at which image size; positions are resampled to it.
        weights: Local file or folder or Hugging Face id by tower; None starts at random.

    Raises:
        UserError: Weights can't be read, or are of another network.
    """

    def __init__(self, config: VisionBackboneConfig, weights: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.config = config
        for tower in config.towers:
            source = (weights or {}).get(tower.name)
            self.add_module(_module_name(config, tower), _get_tower(config, tower, source))

    @staticmethod
    def weight_requests(config: VisionBackboneConfig, group: str) -> list[WeightsRequest]:
        """The weights of every tower, as `<group>.<tower>`."""
        return [
            WeightsRequest(
                f"{group}.{tower.name}",
                f"{FIELD}.{tower.name}",
                config.weights.get(tower.name, f"timm/{tower.timm_id}"),
                WEIGHT_FILES,
            )
            for tower in config.towers
        ]

    @property
    def towers(self) -> dict[str, Any]:
        """timm's models by tower."""
        return {tower.name: getattr(self, _module_name(self.config, tower)) for tower in self.config.towers}

    def forward(self, pixel_values: Mapping[str, Tensor]) -> Tensor:
        """Patch tokens [B, P, C] of normalised images float [B, 3, H, W] by tower."""
        maps = []
        for name, model in self.towers.items():
            (tokens,) = model.forward_intermediates(
                pixel_values[name], indices=[len(model.blocks) - 2], norm=False, stop_early=True, output_fmt="NLC",
                intermediates_only=True,
            )  # fmt: skip
            maps.append(tokens)
        return torch.cat(maps, dim=-1) if len(maps) > 1 else maps[0]

    def unused_parameters(self) -> set[str]:
        """Names of parameters that `forward` never uses."""
        unused = set()
        for tower in self.config.towers:
            prefix, model = _module_name(self.config, tower), self.towers[tower.name]
            after = (f"blocks.{len(model.blocks) - 1}.", *(f"{name}." for name in _AFTER_BLOCKS))
            unused |= {f"{prefix}.{name}" for name, _ in model.named_parameters() if name.startswith(after)}
        return unused

    def fsdp_units(self) -> list[nn.Module]:
        """The blocks of all towers, in the order in which they run."""
        return [block for model in self.towers.values() for block in model.blocks]

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Recompute blocks in the backward pass."""
        for model in self.towers.values():
            model.set_grad_checkpointing(enabled)


def _module_name(config: VisionBackboneConfig, tower: Tower) -> str:
    return "featurizer" if len(config.towers) == 1 else f"{tower.name}_featurizer"


def _get_tower(config: VisionBackboneConfig, tower: Tower, source: str | None) -> nn.Module:
    if source is None:
        return _create(config, tower)
    with torch.device("meta"):  # a tower takes over the file's tensors; drawing them first would take a minute
        model = _create(config, tower)
    with reading_weights(f"{FIELD}.{tower.name}"):
        tensors = _read(Path(download_file(source, WEIGHT_FILES)), model)
        fitting, report = match_weights(model.state_dict(), tensors)
        if not report.exact:
            raise ValueError(f"not the weights of {tower.timm_id}: {report.describe()}")
        model.load_state_dict({name: value.float() for name, value in fitting.items()}, assign=True)
    return model


def _create(config: VisionBackboneConfig, tower: Tower) -> nn.Module:
    prepare_torchvision()
    import timm

    options: dict[str, Any] = {"act_layer": "quick_gelu"} if tower.quick_gelu else {}
    return timm.create_model(
        tower.timm_id, pretrained=False, num_classes=0, img_size=config.image_size,
        **options, **config.tower_options(tower),
    )  # fmt: skip


def _read(path: Path, model: nn.Module) -> dict[str, Tensor]:
    """Tensors of a file, or of a folder that has one, under timm's names, positions resampled; without a classifier."""
    from timm.models import load_state_dict
    from timm.models.vision_transformer import checkpoint_filter_fn

    if path.is_dir():
        path = next(path / name for name in WEIGHT_FILES if (path / name).is_file())
    stored: Any = load_state_dict(str(path), weights_only=True)
    # timm looks at the model's own shapes only, which it has on `meta`, too
    tensors: dict[str, Tensor] = checkpoint_filter_fn(stored, model)  # type: ignore[arg-type]
    return {name: value for name, value in tensors.items() if not name.startswith("head.")}
