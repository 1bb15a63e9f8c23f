"""Text, a token at a time, keeping what earlier positions computed. B samples, K positions, V rows of the token table.

Rows of a batch are padded on the right, as in training: what is generated follows behind the padding, which nobody
attends to, and is counted as if there were none. So a sample gives the same text in any batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vla.models.backbones.causal_lm import CausalLM
from vla.models.vlms.fusing import Sequences

OnToken = Callable[[list[int | None]], None]  # by sample, the new token; None where the sample is complete


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen, and when to stop."""

    max_new_tokens: int = 512
    min_new_tokens: int = 0  # before that many, the end is never chosen
    temperature: float = 0.0  # 0: the likeliest token; else one is drawn, the likelier ones less favoured the higher
    top_p: float = 1.0  # draw only among the likeliest tokens that together reach this probability
    seed: int = 0  # of what is drawn, by sample: a sample's draws depend on its place in the batch and this alone
    among: tuple[int, int] | None = None  # ids to choose from: the first, and the one after the last; none: all

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.min_new_tokens < 0:
            raise ValueError(f"max_new_tokens: must be >= 1 and min_new_tokens >= 0, got {self.max_new_tokens}")
        if self.temperature < 0:
            raise ValueError(f"temperature: must be >= 0, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p: must be within (0, 1], got {self.top_p}")


@dataclass(frozen=True)
class Generation:
    """What was generated."""

    tokens: list[list[int]]  # by sample, without the token that ended it
    first_logits: Tensor  # float32 [B, V], of the first new token, before temperature


@torch.no_grad()
def generate(
    llm: CausalLM, prompt: Sequences, end_id: int | None, sampling: Sampling, on_token: OnToken | None = None
) -> Generation:
    """
    Continue every sample until it ends or is long enough.

    Args:
        llm: In evaluation mode.
        prompt: Padded on the right; its labels are not looked at.
        end_id: The token that ends a text; None: none does.
        sampling: See there.
        on_token: Called after every step.
    """
    from transformers import DynamicCache

    cache: Any = DynamicCache()
    mask, lengths = prompt.attention_mask.bool(), prompt.attention_mask.sum(dim=1)
    size, device = len(lengths), lengths.device
    draw = _Drawing(sampling, size)
    hidden = llm(prompt.embeds, mask, torch.arange(mask.shape[1], device=device).expand_as(mask), cache)
    logits = llm.logits(hidden[torch.arange(size, device=device), lengths - 1]).float()
    first_logits = logits.clone()  # the end is ruled out in place
    tokens: list[list[int]] = [[] for _ in range(size)]
    running = [True] * size
    for step in range(sampling.max_new_tokens):
        if end_id is not None and step < sampling.min_new_tokens:
            logits[:, end_id] = float("-inf")
        chosen = draw(logits)
        ids = chosen.tolist()
        running = [runs and token != end_id for runs, token in zip(running, ids, strict=True)]
        for row, token in enumerate(ids):
            if running[row]:
                tokens[row].append(token)
        if on_token is not None:
            on_token([token if runs else None for token, runs in zip(ids, running, strict=True)])
        if not any(running) or step + 1 == sampling.max_new_tokens:
            break
        mask = torch.cat([mask, mask.new_ones(size, 1)], dim=1)
        hidden = llm(llm.embed(chosen[:, None].to(device)), mask, (lengths + step)[:, None], cache)
        logits = llm.logits(hidden[:, -1]).float()
    return Generation(tokens, first_logits)


class _Drawing:
    """Chooses tokens; every sample draws from a generator of its own."""

    def __init__(self, sampling: Sampling, size: int) -> None:
        self.sampling = sampling
        self._generators = [torch.Generator().manual_seed(sampling.seed + row) for row in range(size)]

    def __call__(self, logits: Tensor) -> Tensor:
        """Logits [B, V] -> ids int64 [B], on the CPU if they were drawn."""
        if self.sampling.among is None:
            return self._choose(logits)
        first, end = self.sampling.among
        return self._choose(logits[:, first:end]) + first

    def _choose(self, logits: Tensor) -> Tensor:
        if self.sampling.temperature == 0:
            return logits.argmax(dim=-1)
        probabilities = (logits / self.sampling.temperature).softmax(dim=-1).cpu()
        if self.sampling.top_p < 1:
            probabilities = _nucleus(probabilities, self.sampling.top_p)
        rows = zip(probabilities, self._generators, strict=True)
        return torch.cat([torch.multinomial(row, 1, generator=generator) for row, generator in rows])


def _nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Probabilities [B, V] without those of the tokens that come once `top_p` is reached."""
    ordered, order = probabilities.sort(dim=-1, descending=True)
    before = ordered.cumsum(dim=-1) - ordered
    ordered = ordered.masked_fill(before >= top_p, 0.0)
    return torch.zeros_like(probabilities).scatter(-1, order, ordered)
