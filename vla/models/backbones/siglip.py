"""SigLIP's vision transformer under nanoVLM's names. N images, P patches, C channels.

Architecture: arXiv 2303.15343 and 2502.14786; weights of Hugging Face's SigLIP and SigLIP 2 (fixed resolution).
"""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vla.conf.models.siglip import SIGLIP, SigLIPConfig
from vla.models.weights_source import WeightsRequest

FIELD = f"model.vision_backbone.weights.{SIGLIP}"


class PatchEmbedding(nn.Module):
    """Patches as tokens, with learned positions."""

    def __init__(self, config: SigLIPConfig) -> None:
        super().__init__()
        patch, width = config.patch_size, config.hidden_size
        self.conv = nn.Conv2d(3, width, kernel_size=patch, stride=patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width)) if config.class_token else None
        tokens = config.num_patches + config.class_token
        self.position_embedding = nn.Parameter(torch.empty(1, tokens, width).normal_(std=0.02))

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.conv(images).flatten(2).transpose(1, 2)
        if self.cls_token is not None:
            tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        return tokens + self.position_embedding


class Attention(nn.Module):
    """Self-attention over all tokens of an image."""

    def __init__(self, config: SigLIPConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_heads, self.dropout = config.num_heads, config.dropout
        self.qkv_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.qkv_proj(x).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        return F.dropout(self.out_proj(out.transpose(1, 2).flatten(2)), dropout)


class MLP(nn.Module):
    """Two linear maps with tanh-GELU between them."""

    def __init__(self, config: SigLIPConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.fc2(F.gelu(self.fc1(x), approximate="tanh")), self.dropout, self.training)


class Block(nn.Module):
    """Attention and MLP, each behind a norm and beside the identity."""

    def __init__(self, config: SigLIPConfig) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.attn = Attention(config)
        self.ln2 = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class SigLIPBackbone(nn.Module):
    """
    The transformer without its pooling head. Parameters are float32.

    Args:
        config: Sizes.
        weights: Local file or folder or Hugging Face id, as `siglip`; None starts at random.

    Raises:
        UserError: The weights can't be read, or are of other sizes.
    """

    def __init__(self, config: SigLIPConfig, weights: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        self.patch_embedding = PatchEmbedding(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.apply(_draw)
        if weights and SIGLIP in weights:
            from vla.models.weights.nanovlm_backbones import load_siglip

            load_siglip(self, Path(weights[SIGLIP]), FIELD)

    @staticmethod
    def weight_requests(config: SigLIPConfig, group: str) -> list[WeightsRequest]:
        """The weights that `config` names, if it does."""
        name = config.weights.get(SIGLIP)
        return [WeightsRequest(f"{group}.{SIGLIP}", FIELD, name)] if name else []

    def forward(self, pixel_values: Mapping[str, Tensor]) -> Tensor:
        """Patches [N, P, C] of images float [N, 3, S, S] in [0, 1], as `siglip`; [N, C] of the class token if any."""
        x = self.patch_embedding(pixel_values[SIGLIP])
        for block in self.blocks:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        x = self.layer_norm(x)
        return x[:, 0] if self.config.class_token else x

    def unused_parameters(self) -> set[str]:
        """Names of parameters that `forward` never uses: none."""
        return set()

    def fsdp_units(self) -> list[nn.Module]:
        """The blocks, in the order in which they run."""
        return list(self.blocks)

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Recompute blocks in the backward pass."""
        self.gradient_checkpointing = enabled


def _draw(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
