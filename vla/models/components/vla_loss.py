"""VLALoss of AtlasVLA: a weighted sum of a pose loss and a gripper loss, with optional regularisers."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_REGRESSION = {"smooth_l1": F.smooth_l1_loss, "l1": F.l1_loss, "l2": F.mse_loss}


def regression_loss(kind: str, prediction: Tensor, target: Tensor) -> Tensor:
    """Element-wise loss, not reduced: `smooth_l1` (beta 1), `l1` or `l2` (squared error)."""
    return _REGRESSION[kind](prediction, target, reduction="none")


class VLALoss(nn.Module):
    """
    `pose_weight` x pose loss + `gripper_weight` x gripper loss (+ regularisers), as AtlasVLA was published with.

    Args:
        pose_weight: Factor of the pose loss.
        gripper_weight: Factor of the gripper loss.
        pose_loss_type: `smooth_l1`, `l1` or `l2`.
        gripper_loss_type: `l1`, or `bce` on values clamped to [0, 1].
        use_auxiliary_loss: Add the two regularisers, where `forward` is given what they need.
        geom_consistency_weight: Factor of the mean squared distance of frames' geometry features from their mean.
        feature_reg_weight: Factor of the mean L2 norm of the fused features.

    Raises:
        ValueError: A loss is unknown.
    """

    def __init__(
        self,
        pose_weight: float = 1.0,
        gripper_weight: float = 0.5,
        pose_loss_type: str = "smooth_l1",
        gripper_loss_type: str = "l1",
        use_auxiliary_loss: bool = False,
        geom_consistency_weight: float = 0.1,
        feature_reg_weight: float = 0.01,
    ) -> None:
        super().__init__()
        if pose_loss_type not in _REGRESSION:
            raise ValueError(f"pose_loss_type: must be one of {', '.join(_REGRESSION)}, got {pose_loss_type!r}")
        if gripper_loss_type not in ("l1", "bce"):
            raise ValueError(f"gripper_loss_type: must be one of l1, bce, got {gripper_loss_type!r}")
        self.pose_weight, self.gripper_weight = pose_weight, gripper_weight
        self.pose_loss_type, self.gripper_loss_type = pose_loss_type, gripper_loss_type
        self.use_auxiliary_loss = use_auxiliary_loss
        self.geom_consistency_weight, self.feature_reg_weight = geom_consistency_weight, feature_reg_weight

    def per_sample(self, predictions: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """
        Losses that are not reduced over the batch; their means are what `forward` gives without regularisers.

        Args:
            predictions: `pose` [..., 6] and `gripper` [..., 1].
            targets: The same; gripper in [0, 1].

        Returns:
            `total_loss`, `pose_loss` and `gripper_loss`, float32 [...].
        """
        pose = regression_loss(self.pose_loss_type, predictions["pose"].float(), targets["pose"].float()).mean(dim=-1)
        gripper = self._gripper(predictions["gripper"].float(), targets["gripper"].float()).mean(dim=-1)
        total = self.pose_weight * pose + self.gripper_weight * gripper
        return {"total_loss": total, "pose_loss": pose, "gripper_loss": gripper}

    def forward(
        self,
        predictions: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        intermediates: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """
        Args:
            predictions: `pose` [B, 6] and `gripper` [B, 1].
            targets: The same; gripper in [0, 1].
            intermediates: `geometry_features` [B, S, D] and `fused_features` [B, D] for the regularisers.

        Returns:
            0-dim float32 `total_loss`, `pose_loss`, `gripper_loss`, and `auxiliary_loss` if it is used.
        """
        losses = {name: value.mean() for name, value in self.per_sample(predictions, targets).items()}
        if self.use_auxiliary_loss and intermediates is not None:
            losses["auxiliary_loss"] = self._auxiliary(intermediates)
            losses["total_loss"] = losses["total_loss"] + losses["auxiliary_loss"]
        return losses

    def _gripper(self, prediction: Tensor, target: Tensor) -> Tensor:
        if self.gripper_loss_type == "l1":
            return F.l1_loss(prediction, target, reduction="none")
        with torch.autocast(prediction.device.type, enabled=False):  # autocast refuses cross-entropy of probabilities
            return F.binary_cross_entropy(prediction.clamp(0, 1), target.clamp(0, 1), reduction="none")

    def _auxiliary(self, intermediates: Mapping[str, Tensor]) -> Tensor:
        fused = intermediates["fused_features"].float()
        loss = self.feature_reg_weight * fused.norm(dim=-1).mean()
        frames = intermediates.get("geometry_features")
        if frames is not None and frames.shape[1] > 1:
            frames = frames.float()
            mean = frames.mean(dim=1, keepdim=True).expand_as(frames)
            loss = loss + self.geom_consistency_weight * F.mse_loss(frames, mean)
        return loss
