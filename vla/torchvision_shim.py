"""Lets torchvision be imported beside a torch build that its compiled operators were not made for.

torchvision wheels carry operators compiled for one build of torch. Beside another (a CPU torch next to a CUDA
torchvision is the common case) the library can't be loaded, and `import torchvision` dies with "operator
torchvision::nms does not exist" although nothing here calls that operator. timm and the image code of transformers
import torchvision, so they die with it. Declaring the operators' signatures is all that the import asks for; calling
them still raises.
"""

import importlib.util
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

# the operators whose meta kernels torchvision registers without asking whether its library was loaded
_SIGNATURES = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def prepare_torchvision() -> None:
    """Make `import torchvision` possible; call it before importing torchvision, timm or transformers' image code.

    Does nothing where torchvision is absent, already imported or healthy, and may be called any number of times.
    """
    if "torchvision" in sys.modules:
        return
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    import torch

    if _load_operators(Path(spec.origin).parent):
        return
    for name, signature in _SIGNATURES.items():
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", signature)


def operators_load() -> bool:
    """Whether torchvision is there and its compiled operators fit the torch beside it."""
    spec = importlib.util.find_spec("torchvision")
    return spec is not None and spec.origin is not None and _load_operators(Path(spec.origin).parent)


def _load_operators(package: Path) -> bool:
    """Whether torchvision's own library loads; loading it here is what its import would do next anyway."""
    import torch

    libraries = [package / f"_C{suffix}" for suffix in EXTENSION_SUFFIXES]
    for library in filter(Path.is_file, libraries):
        try:
            torch.ops.load_library(str(library))
        except (ImportError, OSError):
            return False
        return True
    return False
