"""One token after the other, with what attention has seen kept (KV cache). B samples, K positions, D width."""

from collections.abc import Callable

import torch
from torch import Tensor

from vla.models.backbones.causal_lm import CausalLM
from vla.models.vlms.fusing import Sequences


def left_padded(sequences: Sequences) -> Sequences:
    """The same sequences with their padding in front, so that all of them end at the same place."""
    length = sequences.attention_mask.shape[1]
    padding = length - sequences.attention_mask.sum(1, keepdim=True)
    source = (torch.arange(length, device=padding.device) - padding) % length
    embeds = sequences.embeds.gather(1, source[..., None].expand_as(sequences.embeds))
    return Sequences(embeds, sequences.attention_mask.gather(1, source))


@torch.no_grad()
def greedy_decode(llm: CausalLM, sequences: Sequences, num_tokens: int, choose: Callable[[Tensor], Tensor]) -> Tensor:
    """
    Exactly `num_tokens` tokens after each sequence.

    Args:
        llm: The language model.
        sequences: What it has read, padded on the right.
        num_tokens: Of each answer.
        choose: From logits [B, V] to token ids [B].

    Returns:
        int64 [B, num_tokens].
    """
    from transformers import DynamicCache

    padded, cache = left_padded(sequences), DynamicCache()
    mask, embeds = padded.attention_mask, padded.embeds
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    chosen: list[Tensor] = []
    while True:
        hidden = llm(embeds, mask, positions, cache)
        chosen.append(choose(llm.logits(hidden[:, -1])))
        if len(chosen) == num_tokens:
            return torch.stack(chosen, dim=1)
        embeds = llm.embed(chosen[-1][:, None])
        mask = torch.cat((mask, mask.new_ones(len(mask), 1)), dim=1)
        positions = positions[:, -1:] + 1
