"""VGGT (arXiv 2503.11651): model, weights, pre-processing, geometry and training losses."""

from vla.models.vggt.spec import VGGTSpec, vggt_1b
from vla.models.vggt.vggt import VGGT

__all__ = ["VGGT", "VGGTSpec", "vggt_1b"]
