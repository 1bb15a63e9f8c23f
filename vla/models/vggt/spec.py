"""
spec.py

Sizes of a VGGT model as one frozen value. The defaults are the published VGGT-1B (arXiv 2503.11651); tests and small
policies build reduced models from the same class.
"""

from __future__ import annotations

from dataclasses import dataclass

# name -> (width, depth, heads) of the DINOv2 encoders with registers (arXiv 2304.07193, 2309.16588)
DINO_SIZES: dict[str, tuple[int, int, int]] = {
    "dinov2_vits14_reg": (384, 12, 6),
    "dinov2_vitb14_reg": (768, 12, 12),
    "dinov2_vitl14_reg": (1024, 24, 16),
    "dinov2_vitg2_reg": (1536, 40, 24),
}


@dataclass(frozen=True)
class VGGTSpec:
    """
    Every size that decides the shape of a VGGT model.

    Args:
        img_size: Side in pixels of the square images whose patch grid the position table is trained for.
        patch_size: Side in pixels of a patch; image sides must be multiples of it.
        embed_dim: Token width C; features handed out are 2C wide.
        depth: Number of (frame block, global block) pairs.
        num_heads: Attention heads of the alternating blocks; C / num_heads must be a multiple of 4 for 2D RoPE.
        mlp_ratio: Hidden width of every block's MLP in units of its width.
        num_register_tokens: Register tokens per frame (and inside the DINOv2 encoder).
        rope_freq: Base of the 2D rotary position encoding.
        layer_scale_init: Initial LayerScale of the alternating blocks and of the camera trunk.
        patch_embed: `conv`, or a name in `DINO_SIZES`.
        dino_depth: Blocks of the DINOv2 encoder; None takes it from the name.
        dino_num_heads: Heads of the DINOv2 encoder; None takes it from the name.
        enable_camera: Build the camera head.
        enable_point: Build the point-map head.
        enable_depth: Build the depth head.
        enable_track: Build the tracking head.
        camera_trunk_depth: Blocks in the camera head.
        camera_num_heads: Heads in the camera head (width 2C).
        camera_iterations: Refinement steps of the camera head.
        dpt_features: Channels of the dense heads' fusion path; a multiple of 8.
        dpt_out_channels: Channels of the four feature levels, shallow to deep; multiples of 4.
        dpt_layers: Block pairs whose outputs feed the dense heads, shallow to deep.
        dpt_frames_chunk: Frames that a dense head processes at once; bounds memory and does not change results.
        track_features: Channels of the tracking features.
        track_iterations: Refinement steps of the tracker.
        track_corr_levels: Levels of the correlation pyramid.
        track_corr_radius: Radius of the correlation window in feature pixels.
        track_hidden_size: Width of the tracker's transformer.
        track_num_heads: Heads of the tracker's transformer.
        track_depth: Time blocks of the tracker's transformer (one group of space blocks follows each).
        track_num_virtual: Virtual tracks through which the points exchange information.

    Raises:
        ValueError: A size does not fit the others; the message names the field.
    """

    img_size: int = 518
    patch_size: int = 14
    embed_dim: int = 1024
    depth: int = 24
    num_heads: int = 16
    mlp_ratio: float = 4.0
    num_register_tokens: int = 4
    rope_freq: float = 100.0
    layer_scale_init: float = 0.01
    patch_embed: str = "dinov2_vitl14_reg"
    dino_depth: int | None = None
    dino_num_heads: int | None = None
    enable_camera: bool = True
    enable_point: bool = True
    enable_depth: bool = True
    enable_track: bool = True
    camera_trunk_depth: int = 4
    camera_num_heads: int = 16
    camera_iterations: int = 4
    dpt_features: int = 256
    dpt_out_channels: tuple[int, int, int, int] = (256, 512, 1024, 1024)
    dpt_layers: tuple[int, int, int, int] = (4, 11, 17, 23)
    dpt_frames_chunk: int = 8
    track_features: int = 128
    track_iterations: int = 4
    track_corr_levels: int = 7
    track_corr_radius: int = 4
    track_hidden_size: int = 384
    track_num_heads: int = 8
    track_depth: int = 6
    track_num_virtual: int = 64

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ValueError(f"VGGTSpec.depth must be at least 1, got {self.depth}")
        if self.img_size % self.patch_size:
            raise ValueError(f"VGGTSpec.img_size {self.img_size} is not a multiple of patch_size {self.patch_size}")
        if self.embed_dim % self.num_heads or (self.embed_dim // self.num_heads) % 4:
            raise ValueError(
                f"VGGTSpec.embed_dim {self.embed_dim} / num_heads {self.num_heads} must be a whole multiple of 4"
            )
        self._check_patch_embed()
        if self.enable_camera and self.feature_dim % self.camera_num_heads:
            raise ValueError(f"VGGTSpec.camera_num_heads {self.camera_num_heads} must divide {self.feature_dim}")
        if self.enable_depth or self.enable_point or self.enable_track:
            self._check_dense()

    def _check_patch_embed(self) -> None:
        if self.patch_embed == "conv":
            return
        if self.patch_embed not in DINO_SIZES:
            choices = ", ".join(["conv", *DINO_SIZES])
            raise ValueError(f"VGGTSpec.patch_embed: unknown {self.patch_embed!r}; choose one of {choices}")
        width, depth, _ = DINO_SIZES[self.patch_embed]
        # a reduced encoder (depth given and different) may have any width; a named one has the published width
        if self.dino_depth in (None, depth) and self.embed_dim != width:
            raise ValueError(
                f"VGGTSpec.embed_dim: {self.patch_embed} is {width} wide, got {self.embed_dim} "
                "(give dino_depth and dino_num_heads for a reduced encoder)"
            )
        if self.embed_dim % self.dino_size[1]:
            raise ValueError(f"VGGTSpec.dino_num_heads {self.dino_size[1]} must divide embed_dim {self.embed_dim}")

    def _check_dense(self) -> None:
        if len(self.dpt_layers) != 4 or len(self.dpt_out_channels) != 4:
            raise ValueError("VGGTSpec.dpt_layers and dpt_out_channels need four entries each")
        if any(not 0 <= layer < self.depth for layer in self.dpt_layers):
            raise ValueError(f"VGGTSpec.dpt_layers {self.dpt_layers} must lie in 0..{self.depth - 1}")
        if self.dpt_features % 8 or any(channels % 4 for channels in self.dpt_out_channels):
            raise ValueError("VGGTSpec: dpt_features must be a multiple of 8 and dpt_out_channels multiples of 4")
        if self.enable_track and self.track_hidden_size % self.track_num_heads:
            raise ValueError(f"VGGTSpec.track_num_heads {self.track_num_heads} must divide {self.track_hidden_size}")

    @property
    def feature_dim(self) -> int:
        """Width 2C of the tokens handed to heads and policies."""
        return 2 * self.embed_dim

    @property
    def patch_start_idx(self) -> int:
        """Index of the first patch token: one camera token and the registers come before it."""
        return 1 + self.num_register_tokens

    @property
    def dino_size(self) -> tuple[int, int]:
        """(depth, heads) of the DINOv2 encoder; (0, 1) for the convolutional patch embedding."""
        if self.patch_embed == "conv":
            return 0, 1
        _, depth, heads = DINO_SIZES[self.patch_embed]
        return self.dino_depth or depth, self.dino_num_heads or heads


def vggt_1b() -> VGGTSpec:
    """Sizes of the published VGGT-1B: 1 256 537 516 parameters with all four heads."""
    return VGGTSpec()
