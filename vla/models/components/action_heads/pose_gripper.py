"""The published head of AtlasVLA: one pose and one gripper value by regression."""

import torch
from torch import Tensor, nn

from vla.conf.models.components import PoseGripperHeadConfig
from vla.models.components.action_heads.base import ActionHead, HeadInput
from vla.models.components.vla_loss import VLALoss


class PoseGripperHead(ActionHead):
    """
    An MLP with two outputs, pose [B, A - 1] and gripper [B, 1] in (0, 1), 1 = closed; trained by `VLALoss`.

    The published dropout of 0.1 is left out: its draws would depend on how a batch is cut over processes.

    Args:
        config: Width and losses.
        input_dim: Width D of the fused tokens.
        action_dim: A, the gripper last.
        proprio_dim: Width of the robot state; None: it isn't used.
    """

    def __init__(
        self, config: PoseGripperHeadConfig, input_dim: int, action_dim: int = 7, proprio_dim: int | None = None
    ) -> None:
        super().__init__(config, input_dim, action_dim, proprio_dim)
        hidden, half = config.hidden_dim, config.hidden_dim // 2
        self.trunk = nn.Sequential(
            *(nn.Linear(self.joined_dim, hidden), nn.LayerNorm(hidden), nn.GELU()),
            *(nn.Linear(hidden, half), nn.LayerNorm(half), nn.GELU()),
        )
        self.pose = nn.Sequential(nn.Linear(half, half), nn.GELU(), nn.Linear(half, action_dim - 1))
        self.gripper = nn.Sequential(nn.Linear(half, half), nn.GELU(), nn.Linear(half, 1), nn.Sigmoid())
        self.criterion = VLALoss(config.pose_weight, config.gripper_weight, config.pose_loss, config.gripper_loss)

    def forward(self, inputs: HeadInput) -> tuple[Tensor, Tensor]:
        """Pose [B, A - 1] (normalised) and gripper [B, 1] in (0, 1), float32."""
        x = self.trunk(self.join(inputs))
        return self.pose(x).float(), self.gripper(x).float()

    def losses(self, inputs: HeadInput, actions: Tensor, seeds: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """See `ActionHead.losses`; chunk is 1."""
        pose, gripper = self(inputs)
        target = actions[:, 0].float()
        losses = self.criterion.per_sample(
            {"pose": pose, "gripper": gripper}, {"pose": target[:, :-1], "gripper": (target[:, -1:] + 1) / 2}
        )
        error = (pose - target[:, :-1]).abs().sum(dim=-1) + (2 * gripper - 1 - target[:, -1:]).abs().sum(dim=-1)
        logs = {
            "pose_loss": losses["pose_loss"],
            "gripper_loss": losses["gripper_loss"],
            "action_l1": error / self.action_dim,
        }
        return torch.stack((losses["total_loss"],), dim=1), {k: v.detach().unsqueeze(1) for k, v in logs.items()}

    def predict(self, inputs: HeadInput, seeds: Tensor | None = None) -> Tensor:
        """See `ActionHead.predict`: [B, 1, A]."""
        pose, gripper = self(inputs)
        return torch.cat((pose, 2 * gripper - 1), dim=-1).unsqueeze(1)
