"""
losses.py

Training objective of VGGT (arXiv 2503.11651, with the released training settings): camera, depth and point-map losses
on targets normalised per scene.

Shapes: B batch, S frames, H x W pixels, C channels. Masks are bool, True where the target is valid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from vla.models.vggt.gradient_losses import MAX_ERROR, multi_scale, normal_loss, value_gradient_loss
from vla.models.vggt.pose_encoding import encode_pose

GradientTerm = Literal["none", "grad", "grad_conf", "normal"]

_MIN_QUANTILE_ELEMENTS = 1000


@dataclass(frozen=True)
class VGGTLossSpec:
    """
    Weights and switches of the objective; the defaults are the released training settings.

    Args:
        camera_weight: Weight of the camera loss; 0 leaves it out.
        depth_weight: Weight of the depth loss; 0 leaves it out.
        point_weight: Weight of the point-map loss; 0 leaves it out.
        camera_norm: `l1`, or `l2` for the Euclidean distance of translation, quaternion and field of view each.
        camera_decay: Factor by which each earlier refinement step counts less.
        translation_weight: Weight of the translation error.
        rotation_weight: Weight of the quaternion error.
        fov_weight: Weight of the field-of-view error.
        confidence_gamma: Weight of the confidence-weighted error.
        confidence_alpha: Reward for confidence, times its logarithm.
        valid_quantile: Share of pixels kept, largest values dropped; None keeps all.
        depth_gradient: Spatial term of the depth loss.
        point_gradient: Spatial term of the point-map loss.
        min_valid_pixels: Scenes (camera) or batches (maps) with fewer valid pixels have no loss.
    """

    camera_weight: float = 5.0
    depth_weight: float = 1.0
    point_weight: float = 0.0
    camera_norm: Literal["l1", "l2"] = "l1"
    camera_decay: float = 0.6
    translation_weight: float = 1.0
    rotation_weight: float = 1.0
    fov_weight: float = 0.5
    confidence_gamma: float = 1.0
    confidence_alpha: float = 0.2
    valid_quantile: float | None = 0.98
    depth_gradient: GradientTerm = "grad"
    point_gradient: GradientTerm = "normal"
    min_valid_pixels: int = 100


class SceneTargets(NamedTuple):
    """Ground truth of a batch of scenes."""

    extrinsics: Tensor  # [B, S, 3, 4] camera-from-world
    intrinsics: Tensor  # [B, S, 3, 3] pixels
    depths: Tensor  # [B, S, H, W]
    world_points: Tensor  # [B, S, H, W, 3]
    masks: Tensor  # [B, S, H, W] bool


def normalize_targets(targets: SceneTargets) -> SceneTargets:
    """
    Express scenes in their first camera's frame, scaled so that valid points are at mean distance 1 from the origin.

    Returns:
        Targets with new extrinsics, depths and world points.
    """
    rotation, translation = targets.extrinsics[:, :1, :, :3], targets.extrinsics[:, :1, :, 3:]
    new_rotation = targets.extrinsics[..., :3] @ rotation.transpose(-1, -2)
    new_translation = targets.extrinsics[..., 3:] - new_rotation @ translation
    points = torch.einsum("bsij,bshwj->bshwi", rotation.expand_as(new_rotation), targets.world_points)
    points = points + translation.squeeze(-1)[:, :, None, None]
    distance = points.norm(dim=-1) * targets.masks
    scale = distance.sum((1, 2, 3)) / (targets.masks.sum((1, 2, 3)) + 1e-3)
    scale = scale.clamp(1e-6, 1e6).view(-1, 1, 1, 1)
    return targets._replace(
        extrinsics=torch.cat((new_rotation, new_translation / scale), dim=-1),
        depths=targets.depths / scale,
        world_points=points / scale.unsqueeze(-1),
    )


def camera_loss(pose_enc_list: Tensor, targets: SceneTargets, spec: VGGTLossSpec | None = None) -> dict[str, Tensor]:
    """
    Error of every refinement step's pose encodings, later steps weighing more.

    Args:
        pose_enc_list: [steps, B, S, 9].
        targets: Normalised targets; only scenes whose first frame has enough valid pixels count.
        spec: Settings.

    Returns:
        `loss_camera` and its parts `loss_T`, `loss_R`, `loss_FL`, scalars.
    """
    spec = spec or VGGTLossSpec()
    image_size = (targets.depths.shape[-2], targets.depths.shape[-1])
    usable = targets.masks[:, 0].sum((-1, -2)) > spec.min_valid_pixels
    if not usable.any():
        zero = _zero(pose_enc_list)
        return {"loss_camera": zero, "loss_T": zero, "loss_R": zero, "loss_FL": zero}
    truth = encode_pose(targets.extrinsics, targets.intrinsics, image_size)[usable]
    steps = len(pose_enc_list)
    totals = [_zero(pose_enc_list)] * 3
    for index, predicted in enumerate(pose_enc_list[:, usable]):
        weight = spec.camera_decay ** (steps - 1 - index) / steps
        parts = _camera_errors(predicted - truth, spec.camera_norm)
        totals = [total + weight * part for total, part in zip(totals, parts, strict=True)]
    loss_t, loss_r, loss_fl = totals
    total = spec.translation_weight * loss_t + spec.rotation_weight * loss_r + spec.fov_weight * loss_fl
    return {"loss_camera": total, "loss_T": loss_t, "loss_R": loss_r, "loss_FL": loss_fl}


def depth_loss(
    depth: Tensor, confidence: Tensor, targets: SceneTargets, spec: VGGTLossSpec | None = None
) -> dict[str, Tensor]:
    """
    Loss of predicted depth [B, S, H, W, 1] with confidence [B, S, H, W] against normalised targets.

    Returns:
        `loss_conf_depth`, `loss_reg_depth`, `loss_grad_depth`, scalars.
    """
    spec = spec or VGGTLossSpec()
    truth = targets.depths.unsqueeze(-1)
    losses = _dense_loss(depth, confidence, truth, targets.masks, spec, spec.depth_gradient)
    return {f"loss_{name}_depth": value for name, value in losses.items()}


def point_loss(
    points: Tensor, confidence: Tensor, targets: SceneTargets, spec: VGGTLossSpec | None = None
) -> dict[str, Tensor]:
    """
    Loss of predicted world points [B, S, H, W, 3] with confidence [B, S, H, W] against normalised targets.

    Returns:
        `loss_conf_point`, `loss_reg_point`, `loss_grad_point`, scalars.
    """
    spec = spec or VGGTLossSpec()
    losses = _dense_loss(points, confidence, targets.world_points, targets.masks, spec, spec.point_gradient)
    return {f"loss_{name}_point": value for name, value in losses.items()}


def vggt_loss(
    predictions: Mapping[str, Tensor], targets: SceneTargets, spec: VGGTLossSpec | None = None
) -> dict[str, Tensor]:
    """
    Weighted sum of the losses whose weight is not zero.

    Args:
        predictions: Output of `VGGT.forward`.
        targets: Normalised targets.
        spec: Settings.

    Returns:
        `objective` and every part, scalars.

    Raises:
        KeyError: A prediction that a weight asks for is missing.
        ValueError: Every weight is zero.
    """
    spec = spec or VGGTLossSpec()
    parts: dict[str, Tensor] = {}
    terms = []
    if spec.camera_weight:
        parts |= camera_loss(predictions["pose_enc_list"], targets, spec)
        terms.append(spec.camera_weight * parts["loss_camera"])
    if spec.depth_weight:
        losses = depth_loss(predictions["depth"], predictions["depth_conf"], targets, spec)
        parts |= losses
        terms.append(spec.depth_weight * torch.stack(tuple(losses.values())).sum())
    if spec.point_weight:
        losses = point_loss(predictions["world_points"], predictions["world_points_conf"], targets, spec)
        parts |= losses
        terms.append(spec.point_weight * torch.stack(tuple(losses.values())).sum())
    if not terms:
        raise ValueError("every weight of the objective is zero")
    return {"objective": torch.stack(terms).sum(), **parts}


def _camera_errors(error: Tensor, norm: str) -> tuple[Tensor, Tensor, Tensor]:
    """Mean translation, quaternion and field-of-view errors of differences [B, S, 9]."""
    sections = error.nan_to_num(0.0, 0.0, 0.0).split((3, 4, 2), dim=-1)
    measured = [part.abs() if norm == "l1" else part.norm(dim=-1) for part in sections]
    return measured[0].clamp(max=MAX_ERROR).mean(), measured[1].mean(), measured[2].mean()


def _dense_loss(
    predicted: Tensor, confidence: Tensor, truth: Tensor, masks: Tensor, spec: VGGTLossSpec, gradient: GradientTerm
) -> dict[str, Tensor]:
    """Confidence, regression and spatial terms of maps [B, S, H, W, C]."""
    if masks.sum() < spec.min_valid_pixels:
        zero = _zero(predicted) + _zero(confidence)
        return {"conf": zero, "reg": zero, "grad": zero}
    truth = _finite(truth)
    error = _finite((predicted - truth)[masks].norm(dim=-1))
    kept_confidence = confidence[masks]
    weighted = _finite(spec.confidence_gamma * error * kept_confidence - spec.confidence_alpha * kept_confidence.log())
    return {
        "conf": _robust_mean(weighted, spec.valid_quantile),
        "reg": _robust_mean(error, spec.valid_quantile),
        "grad": _gradient_loss(predicted, confidence, truth, masks, spec, gradient),
    }


def _gradient_loss(
    predicted: Tensor, confidence: Tensor, truth: Tensor, masks: Tensor, spec: VGGTLossSpec, term: GradientTerm
) -> Tensor:
    if term == "none":
        return _zero(predicted)
    maps = [x.flatten(0, 1) for x in (predicted, truth, masks, confidence)]
    if term == "normal":
        return multi_scale(normal_loss, maps[:3], num_scales=3)
    weighting = (spec.confidence_gamma, spec.confidence_alpha) if term == "grad_conf" else None
    return multi_scale(partial(value_gradient_loss, weighting=weighting), maps, num_scales=4)


def _robust_mean(values: Tensor, quantile: float | None) -> Tensor:
    """Mean of values [K], without the largest ones when there are enough of them."""
    if quantile is None or values.numel() <= _MIN_QUANTILE_ELEMENTS:
        return values.mean()
    values = values.clamp(max=MAX_ERROR)
    rank = round(quantile * (values.numel() - 1))
    threshold = values.detach().kthvalue(rank + 1).values
    kept = values[values < threshold]
    return kept.mean() if kept.numel() else values.mean()


def _finite(x: Tensor) -> Tensor:
    return x.nan_to_num(0.0, 0.0, 0.0).clamp(-MAX_ERROR, MAX_ERROR)


def _zero(x: Tensor) -> Tensor:
    """A zero that still depends on `x`, so that every rank of a distributed run has the same graph."""
    return x.nan_to_num(0.0, 0.0, 0.0).sum() * 0.0
