"""
camera_head.py

Regression of one pose encoding per frame by repeated refinement, each step conditioned on the last estimate (adaptive
layer norm). Encoding: translation (3), quaternion x y z w (4), vertical and horizontal field of view in radians (2).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla.models.vggt.layers import Block, Mlp, run_blocks
from vla.models.vggt.spec import VGGTSpec

POSE_ENCODING_DIM = 9
_FOV_START = 7


def activate_pose(raw: Tensor) -> Tensor:
    """Pose encodings [..., 9] from raw ones: translation and quaternion as they are, fields of view through ReLU."""
    return torch.cat((raw[..., :_FOV_START], F.relu(raw[..., _FOV_START:])), dim=-1)


class CameraHead(nn.Module):
    """
    Camera head of VGGT: [B, S, 2C] camera tokens -> pose encodings.

    Args:
        spec: Sizes of the model.
    """

    def __init__(self, spec: VGGTSpec) -> None:
        super().__init__()
        dim = spec.feature_dim
        self.num_iterations = spec.camera_iterations
        self.gradient_checkpointing = False
        self.trunk = nn.ModuleList(
            Block(dim, spec.camera_num_heads, spec.mlp_ratio, spec.layer_scale_init)
            for _ in range(spec.camera_trunk_depth)
        )
        self.token_norm = nn.LayerNorm(dim)
        self.trunk_norm = nn.LayerNorm(dim)
        self.empty_pose_tokens = nn.Parameter(torch.empty(1, 1, POSE_ENCODING_DIM))
        self.embed_pose = nn.Linear(POSE_ENCODING_DIM, dim)
        self.poseLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 3 * dim))  # published name
        self.adaln_norm = nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)
        self.pose_branch = Mlp(dim, dim // 2, POSE_ENCODING_DIM)

    def reset_parameters(self) -> None:
        """The first estimate starts at zero."""
        nn.init.zeros_(self.empty_pose_tokens)

    def forward(self, camera_tokens: Tensor, num_iterations: int | None = None) -> Tensor:
        """
        Args:
            camera_tokens: [B, S, 2C].
            num_iterations: Refinement steps; None takes the spec's.

        Returns:
            Pose encodings of every step, [steps, B, S, 9]; the last entry is the result.
        """
        tokens = self.token_norm(camera_tokens)
        normalised = self.adaln_norm(tokens)
        raw: Tensor | None = None
        estimates = []
        for _ in range(num_iterations or self.num_iterations):
            # the estimate is fed back before activation and without gradient; every step restarts from the same tokens
            previous = self.empty_pose_tokens.expand(*tokens.shape[:2], -1) if raw is None else raw.detach()
            shift, scale, gate = self.poseLN_modulation(self.embed_pose(previous)).chunk(3, dim=-1)
            x = gate * (normalised * (1 + scale) + shift) + tokens
            x = run_blocks(self.trunk, x, self.gradient_checkpointing)
            delta = self.pose_branch(self.trunk_norm(x))
            raw = delta if raw is None else raw.detach() + delta
            estimates.append(activate_pose(raw))
        return torch.stack(estimates)
