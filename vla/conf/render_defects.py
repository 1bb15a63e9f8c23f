"""`RenderDefectsConfig`: rendered pictures with defects, to train and test an anomaly detector on."""

from dataclasses import dataclass
from pathlib import Path

from vla.conf.checks import require, require_nonnegative, require_positive

CLASSES = ("wood", "fabric", "terrazzo", "plate", "capsule", "blocks")


@dataclass(frozen=True)
class RenderDefectsConfig:
    """Render surfaces and objects, faultless and with defects; writes a dataset in MVTec-AD's layout."""

    output: Path = Path("data/defects")  # folder for the classes and the meta files
    classes: tuple[str, ...] = CLASSES  # wood, fabric, terrazzo, plate, capsule, blocks
    train: int = 120  # faultless training pictures of each class
    test_good: int = 20  # faultless test pictures of each class
    test_bad: int = 10  # test pictures of each class and defect
    image_size: int = 256  # pixels, square
    seed: int = 7  # of everything
    workers: int = 1  # processes that render

    def __post_init__(self) -> None:
        require_positive(self, "train", "workers")
        require_nonnegative(self, "test_good", "test_bad", "seed")
        require("image_size", self.image_size >= 48, "must be >= 48", self.image_size)
        require("classes", bool(self.classes), "must name at least one class", self.classes)
        for name in self.classes:
            require("classes", name in CLASSES, f"must be of {', '.join(CLASSES)}", name)
