"""FiLM (arXiv 1709.07871) in vision transformers: what is looked for scales and shifts what is seen, in every block.

B samples, L tokens of a transformer, C its width, D width of the language model.
"""

from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class FiLMBlock(nn.Module):
    """
    A transformer block of timm whose tokens are modulated between attention and MLP.

    Args:
        block: timm's; becomes `block.*`.
        dim: C.
        condition_dim: D.
    """

    def __init__(self, block: Any, dim: int, condition_dim: int) -> None:
        super().__init__()
        self.block = block
        self.scale = nn.Linear(condition_dim, dim)
        self.shift = nn.Linear(condition_dim, dim)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Tokens [B, L, C] and a condition [B, D] to tokens [B, L, C]."""
        block = self.block
        x = x + block.drop_path1(block.ls1(block.attn(block.norm1(x))))
        x = x * (1 + self.scale(condition)[:, None]) + self.shift(condition)[:, None]
        return x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))


def add_film(tower: Any, condition_dim: int) -> None:
    """Wrap all blocks of timm's vision transformer `tower` in place."""
    tower.blocks = nn.Sequential(*(FiLMBlock(block, tower.embed_dim, condition_dim) for block in tower.blocks))


def film_patches(tower: Any, images: Tensor, condition: Tensor) -> Tensor:
    """
    Patch tokens of the second-to-last block.

    Args:
        tower: timm's vision transformer after `add_film`.
        images: [B, 3, H, W], normalised.
        condition: [B, D].

    Returns:
        [B, L, C], not normalised, without class and register tokens.
    """
    tokens = tower.norm_pre(tower.patch_drop(tower._pos_embed(tower.patch_embed(images))))
    for block in tower.blocks[:-1]:
        if tower.grad_checkpointing and tower.training:
            tokens = checkpoint(block, tokens, condition, use_reentrant=False)
        else:
            tokens = block(tokens, condition)
    return tokens[:, tower.num_prefix_tokens :]
