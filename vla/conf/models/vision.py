"""What a vision backbone of a vision-language model is: which towers, at which size, what their images look like."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import draccus

from vla.conf.checks import require, require_positive


@dataclass(frozen=True)
class PixelTransform:
    """What a tower expects of its images."""

    size: int  # pixels, square
    mean: tuple[float, float, float]  # of each channel in [0, 1]; also the colour of a letterbox's border
    std: tuple[float, float, float]


@dataclass(frozen=True)
class Tower:
    """A timm vision transformer inside a backbone; facts about the published one."""

    name: str  # key of its pixel values; its weights are `<name>_featurizer.*`, or `featurizer.*` where it is alone
    timm_id: str
    embed_dim: int  # width
    depth: int  # blocks; features are those of the last but one
    patch_size: int  # pixels
    num_prefix_tokens: int  # class and register tokens, which are dropped
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    quick_gelu: bool = False  # built with x * sigmoid(1.702 x), as OpenAI's CLIP was trained


@dataclass(frozen=True)
class VisionBackboneConfig(draccus.ChoiceRegistry):
    """Base of vision backbones. `target` is the class that implements it; it is never read from a file.

    That class takes `(config, weights)`, where `weights` has local paths by tower and is None for random values.
    """

    backbone_id: ClassVar[str] = ""
    target: ClassVar[str] = ""
    label: ClassVar[str] = ""  # for people
    towers: ClassVar[tuple[Tower, ...]] = ()

    image_size: int = 224  # pixels, square
    weights: dict[str, str] = field(default_factory=dict)  # tower -> local file or folder; else what is published

    @classmethod
    def default_choice_name(cls) -> str | None:
        """What it is when a file or the command line sets fields of it without naming its type."""
        return "clip-vit-l-336px"

    def __post_init__(self) -> None:
        require_positive(self, "image_size")
        for name in self.weights:
            require("weights", name in self.transforms, f"must name towers of {', '.join(self.transforms)}", name)

    @property
    def embed_dim(self) -> int:
        """Channels of a patch token, of all towers together."""
        return sum(tower.embed_dim for tower in self.towers)

    @property
    def patch_size(self) -> int:
        """Pixels per patch."""
        return self.towers[0].patch_size

    @property
    def num_patches(self) -> int:
        """Tokens of an image."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def transforms(self) -> dict[str, PixelTransform]:
        """By tower, what its images look like."""
        return {tower.name: PixelTransform(self.image_size, tower.mean, tower.std) for tower in self.towers}

    def tower_options(self, tower: Tower) -> dict[str, Any]:
        """Keyword arguments for timm besides the tower's own; smaller stand-ins give other sizes."""
        return {}
