"""
vggt.py

VGGT (Visual Geometry Grounded Transformer, arXiv 2503.11651): images of one scene -> camera poses, depth, point maps
and tracks in one forward pass. `encode` serves policies that only want the trunk's tokens.

Shapes: B batch, S frames, P tokens per frame, C trunk width, N query points.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from vla.models.vggt.aggregator import Aggregator, AggregatorOutput
from vla.models.vggt.camera_head import CameraHead
from vla.models.vggt.dinov2 import DinoVisionTransformer
from vla.models.vggt.dpt_head import DPTHead, depth_activation, point_activation
from vla.models.vggt.layers import reset_all
from vla.models.vggt.spec import VGGTSpec, vggt_1b
from vla.models.vggt.track_head import TrackHead

OUTPUTS = ("camera", "depth", "points", "track")


class VGGT(nn.Module):
    """
    VGGT with the published parameter names.

    Weights are random after construction (`init_weights`); `vla.models.vggt.weights.load_vggt` fills in published ones.
    Under `torch.device("meta")` nothing is allocated: call `to_empty(device=...)` and `init_weights()` afterwards.

    Args:
        spec: Sizes; None builds the published VGGT-1B.

    Example:
        >>> spec = VGGTSpec(
        ...     img_size=56, embed_dim=32, depth=4, num_heads=2, patch_embed="conv", dpt_layers=(0, 1, 2, 3),
        ... )
        >>> model = VGGT(spec)
        >>> model(torch.rand(1, 2, 3, 56, 56), outputs=("depth",))["depth"].shape
        torch.Size([1, 2, 56, 56, 1])
    """

    def __init__(self, spec: VGGTSpec | None = None) -> None:
        super().__init__()
        spec = vggt_1b() if spec is None else spec
        self.spec = spec
        # shapes first and values once: default initialisation would be drawn and thrown away
        device = torch.get_default_device()
        with torch.device("meta"):
            self.aggregator = Aggregator(spec)
            self.camera_head = CameraHead(spec) if spec.enable_camera else None
            self.depth_head = DPTHead(spec, output_dim=2) if spec.enable_depth else None
            self.point_head = DPTHead(spec, output_dim=4) if spec.enable_point else None
            self.track_head = TrackHead(spec) if spec.enable_track else None
        if device.type != "meta":
            self.to_empty(device=device)
            self.init_weights()

    def init_weights(self) -> None:
        """Set every parameter and constant afresh; equal seeds (`torch.manual_seed`) give equal weights."""
        reset_all(self)

    def forward(
        self,
        images: Tensor,
        query_points: Tensor | None = None,
        outputs: Sequence[str] | None = None,
        layers: Iterable[int] | None = None,
    ) -> dict[str, Tensor | dict[int, Tensor]]:
        """
        Run the trunk and the heads that are asked for, and no other.

        Args:
            images: [B, S, 3, H, W] (or [S, 3, H, W]) floating point, RGB in [0, 1], sides multiples of the patch size.
            query_points: [B, N, 2] (or [N, 2]) pixels (x, y) of frame 0 to track; giving them asks for `track`.
            outputs: Any of `camera`, `depth`, `points`, `track`; None asks for every enabled one of the first three.
            layers: Trunk layers whose tokens to return as well, negative ones counted from the end; None returns none.

        Returns:
            `camera`: `pose_enc` [B, S, 9], `pose_enc_list` [steps, B, S, 9]. `depth`: `depth` [B, S, H, W, 1] and
            `depth_conf` [B, S, H, W] (> 1). `points`: `world_points` [B, S, H, W, 3], `world_points_conf` [B, S, H, W].
            `track`: `track` [B, S, N, 2] pixels, `track_list` [steps, B, S, N, 2], `vis` and `conf` [B, S, N] in
            (0, 1). With layers: `tokens`, layer -> [B, S, P, 2C].

        Raises:
            ValueError: An output is unknown or its head is not built, `track` lacks query points, a layer does not
                exist, or `images` does not fit.
        """
        images = images.unsqueeze(0) if images.ndim == 4 else images
        asked = self._resolve_outputs(outputs, query_points)
        returned = self.aggregator.resolve_layers(layers or ())
        dense = self.spec.dpt_layers if asked & {"depth", "points", "track"} else ()
        trunk = self.aggregator(images, (*returned, *dense), camera_tokens="camera" in asked)
        image_size = (images.shape[-2], images.shape[-1])
        result: dict[str, Tensor | dict[int, Tensor]] = {}
        with _full_precision(images.device):
            if self.camera_head is not None and "camera" in asked:
                result |= _run_camera(self.camera_head, trunk)
            if self.depth_head is not None and "depth" in asked:
                depth, confidence = depth_activation(_run_dense(self.depth_head, trunk, image_size))
                result |= {"depth": depth, "depth_conf": confidence}
            if self.point_head is not None and "points" in asked:
                points, confidence = point_activation(_run_dense(self.point_head, trunk, image_size))
                result |= {"world_points": points, "world_points_conf": confidence}
        if self.track_head is not None and query_points is not None:
            query_points = query_points.unsqueeze(0) if query_points.ndim == 2 else query_points
            result |= self.track_head(trunk.tokens, trunk.patch_start_idx, image_size, query_points)._asdict()
        if returned:
            result["tokens"] = {layer: trunk.tokens[layer] for layer in returned}
        return result

    def encode(
        self, images: Tensor, layers: Iterable[int] = (-1,), camera: bool = False
    ) -> tuple[dict[int, Tensor], int, Tensor | None]:
        """
        Trunk tokens for a policy. Block pairs after the last one needed are not run, dense heads never.

        Args:
            images: [B, S, 3, H, W] floating point, RGB in [0, 1], sides multiples of the patch size.
            layers: Layers to return, negative ones counted from the end.
            camera: Also run the camera head.

        Returns:
            Tokens by layer number (0..depth-1, in the order asked), each [B, S, P, 2C]; the index of the first patch
            token in P (camera and register tokens come before it); and the pose encoding [B, S, 9], or None.

        Raises:
            ValueError: The camera head is not built, a layer does not exist, or `images` does not fit.
        """
        if camera:
            self._resolve_outputs(("camera",), None)
        wanted = self.aggregator.resolve_layers(layers)
        trunk = self.aggregator(images, wanted, camera_tokens=camera)
        tokens = {layer: trunk.tokens[layer] for layer in wanted}
        if self.camera_head is None or not camera:
            return tokens, trunk.patch_start_idx, None
        with _full_precision(images.device):
            return tokens, trunk.patch_start_idx, _run_camera(self.camera_head, trunk)["pose_enc"]

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Recompute transformer blocks in the backward pass instead of keeping their activations."""
        for module in self.modules():
            if isinstance(module, Aggregator | DinoVisionTransformer | CameraHead):
                module.gradient_checkpointing = enabled

    def fsdp_units(self) -> list[nn.Module]:
        """The transformer blocks, in the order in which they run: what a sharding strategy gathers one at a time."""
        units: list[nn.Module] = list(getattr(self.aggregator.patch_embed, "blocks", ()))
        for pair in zip(self.aggregator.frame_blocks, self.aggregator.global_blocks, strict=True):
            units.extend(pair)
        if self.camera_head is not None:
            units.extend(self.camera_head.trunk)
        return units

    def _resolve_outputs(self, outputs: Sequence[str] | None, query_points: Tensor | None) -> set[str]:
        heads = dict(zip(OUTPUTS, (self.camera_head, self.depth_head, self.point_head, self.track_head), strict=True))
        if outputs is None:
            asked = {name for name, head in heads.items() if head is not None and name != "track"}
        else:
            asked = {outputs} if isinstance(outputs, str) else set(outputs)
        if query_points is not None:
            asked.add("track")
        for name in sorted(asked):
            if name not in heads:
                raise ValueError(f"unknown output {name!r}; choose from {', '.join(OUTPUTS)}")
            if heads[name] is None:
                raise ValueError(f"output {name!r} was asked for, but this model was built without its head")
        if "track" in asked and query_points is None:
            raise ValueError("output 'track' needs query_points [B, N, 2]")
        return asked


def _run_camera(head: CameraHead, trunk: AggregatorOutput) -> dict[str, Tensor]:
    assert trunk.camera_tokens is not None
    estimates = head(trunk.camera_tokens.to(head.embed_pose.weight.dtype))
    return {"pose_enc": estimates[-1], "pose_enc_list": estimates}


def _run_dense(head: DPTHead, trunk: AggregatorOutput, image_size: tuple[int, int]) -> Tensor:
    tokens = {layer: trunk.tokens[layer].to(head.norm.weight.dtype) for layer in head.layers}
    return head(tokens, trunk.patch_start_idx, image_size)


def _full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Heads regress metric values: autocast is off inside them, as in the published model."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
