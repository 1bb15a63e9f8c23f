"""`RenderVQAConfig`: pictures of blocks with questions and true answers, to train a small vision-language model on."""

from dataclasses import dataclass
from pathlib import Path

from vla.conf.checks import require, require_nonnegative, require_positive


@dataclass(frozen=True)
class RenderVQAConfig:
    """Render pictures of blocks and ask about them; writes a dataset in LLaVA's layout."""

    output: Path = Path("data/vqa-rendered")  # folder for the pictures and the annotation files
    images: int = 4000  # training pictures, a scene each
    validation_images: int = 400  # held-out pictures, of other scenes
    image_size: int = 160  # pixels, square
    seed: int = 7  # of all scenes
    workers: int = 1  # processes that render

    def __post_init__(self) -> None:
        require_positive(self, "images", "validation_images", "workers")
        require_nonnegative(self, "seed")
        require("image_size", self.image_size >= 32, "must be >= 32", self.image_size)
