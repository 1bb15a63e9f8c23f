"""VGGT (arXiv 2503.11651) in our own words: model, weights, pre-processing, geometry and training losses."""

from vla.models.vggt.spec import VGGTSpec, vggt_1b, vggt_tiny
from vla.models.vggt.vggt import VGGT

__all__ = ["VGGT", "VGGTSpec", "vggt_1b", "vggt_tiny"]
