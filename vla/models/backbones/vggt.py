"""VGGT as a policy's vision backbone: its sizes from the configuration, and what a policy needs of its results."""

from typing import NamedTuple

import torch
from torch import Tensor

from vla.conf.models.components import GeometryEncoderConfig, VGGTConfig
from vla.models.components.geometry_encoder import reduce_tokens, subsample_points
from vla.models.vggt import VGGT, VGGTSpec
from vla.models.vggt.weights import load_vggt
from vla.models.weights_source import download_file, reading_weights

FIELD = "model.vggt.weights"
WEIGHT_FILES = ("model.safetensors", "model.pt")
_PUBLISHED_DEPTH = 24
_PUBLISHED_DPT_LAYERS = (4, 11, 17, 23)


class SceneFeatures(NamedTuple):
    """What the geometry encoder takes of one scene; float32."""

    tokens: Tensor  # [B, S, n, 2C]
    pose: Tensor | None  # [B, S, 9]
    points: Tensor | None  # [B, S, K, 3]


def get_vggt_spec(config: VGGTConfig, use_camera: bool, use_points: bool) -> VGGTSpec:
    """Sizes of the VGGT that `config` names, with no head but those that are used.

    Sizes that the configuration leaves out are the published ones, in proportion to its width and depth.
    """
    depth, dim = config.depth, config.embed_dim
    layers = _PUBLISHED_DPT_LAYERS
    if depth != _PUBLISHED_DEPTH:
        first, second, third = (max(0, round(depth * quarter / 4) - 1) for quarter in (1, 2, 3))
        layers = (first, second, third, depth - 1)
    conv = config.patch_embed == "conv"
    return VGGTSpec(
        img_size=config.img_size,
        patch_size=config.patch_size,
        embed_dim=dim,
        depth=depth,
        num_heads=config.num_heads,
        mlp_ratio=config.mlp_ratio,
        patch_embed=config.patch_embed,
        dino_depth=None if conv else config.patch_embed_depth,
        dino_num_heads=None if conv else config.patch_embed_heads,
        enable_camera=use_camera,
        enable_point=use_points,
        enable_depth=False,
        enable_track=False,
        camera_num_heads=config.num_heads,
        dpt_features=max(8, dim // 32 * 8),
        dpt_out_channels=(max(4, dim // 16 * 4), max(4, dim // 8 * 4), max(4, dim // 4 * 4), max(4, dim // 4 * 4)),
        dpt_layers=layers,
    )


class VGGTBackbone(VGGT):
    """
    A VGGT that gives a policy's scene features; its parameters have the published names.

    Args:
        config: its sizes.
        geometry: which heads are needed.
        weights: local file, folder or Hugging Face id; None starts at random.

    Raises:
        UserError: the weights can't be read.
    """

    def __init__(self, config: VGGTConfig, geometry: GeometryEncoderConfig, weights: str | None = None) -> None:
        spec = get_vggt_spec(config, geometry.use_pose, geometry.use_pointnet)
        if weights is None:
            super().__init__(spec)
        else:
            with torch.device("meta"):
                super().__init__(spec)
            with reading_weights(FIELD):
                load_vggt(self, download_file(weights, WEIGHT_FILES))

    @property
    def feature_dim(self) -> int:
        """Width 2C of a token."""
        return self.spec.feature_dim

    def encode_scene(self, images: Tensor, config: GeometryEncoderConfig) -> SceneFeatures:
        """
        Run VGGT once for all that `config` uses, and no further than it must go.

        Args:
            images: float [B, S, 3, H, W] in [0, 1].
            config: Layers, tokens, pose and points to give.
        """
        points = None
        if config.use_pointnet:
            outputs = ("points", "camera") if config.use_pose else ("points",)
            result = self(images, outputs=outputs, layers=config.layers)
            tokens, patch_start, pose = result["tokens"], self.spec.patch_start_idx, result.get("pose_enc")
            points = subsample_points(result["world_points"], config.num_points)
        else:
            tokens, patch_start, pose = self.encode(images, layers=config.layers, camera=config.use_pose)
        grid = (images.shape[-2] // self.spec.patch_size, images.shape[-1] // self.spec.patch_size)
        reduced = reduce_tokens(list(tokens.values()), patch_start, grid, config)
        return SceneFeatures(reduced, None if pose is None else pose.float(), points)

    def unused_parameters(self, config: GeometryEncoderConfig) -> set[str]:
        """Names of parameters that `encode_scene` never uses: the mask token, and blocks after the last that is run."""
        unused = {name for name, _ in self.named_parameters() if name.endswith("mask_token")}
        last = max(config.layers)
        if config.use_pose:
            last = self.spec.depth - 1
        elif config.use_pointnet:
            last = max(last, *self.spec.dpt_layers)
        for kind in ("frame_blocks", "global_blocks"):
            for index in range(last + 1, self.spec.depth):
                block = getattr(self.aggregator, kind)[index]
                unused |= {f"aggregator.{kind}.{index}.{name}" for name, _ in block.named_parameters()}
        return unused
