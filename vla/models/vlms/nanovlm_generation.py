"""Continuing sequences with nanoVLM, one token at a time. B sequences of L tokens, V rows of the token table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vla.models.backbones.nano_lm import KeyValues


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; the values are the published ones.

    The `top_k` likeliest tokens stay, of them those that make up `top_p` of the probability (not the one that crosses
    it, unless it is the first); the temperature only then changes their probabilities.
    """

    greedy: bool = False  # the likeliest token
    top_k: int = 50  # 0: all
    top_p: float = 0.9
    temperature: float = 0.5
    generator: torch.Generator | None = None  # None: PyTorch's own

    def __call__(self, logits: Tensor) -> Tensor:
        """The next token int64 [B] of scores [B, V]."""
        if self.greedy:
            return logits.argmax(-1)
        scores = filter_top(logits.float(), self.top_k, self.top_p) / self.temperature
        return torch.multinomial(scores.softmax(-1), 1, generator=self.generator)[:, 0]


def filter_top(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """Scores [B, V] with -inf for what `Sampling` leaves out."""
    if top_k:
        least = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if top_p < 1:
        ordered, order = logits.sort(descending=True)
        dropped = ordered.softmax(-1).cumsum(-1) > top_p
        dropped[:, 0] = False
        logits = logits.masked_fill(dropped.scatter(-1, order, dropped), -torch.inf)
    return logits


@torch.no_grad()
def generate(
    model: Any,
    input_ids: Tensor,
    pixel_values: Mapping[str, Tensor] | None = None,
    image_mask: Tensor | None = None,
    attention_mask: Tensor | None = None,
    *,
    max_new_tokens: int = 5,
    sampling: Callable[[Tensor], Tensor] | None = None,
    end_id: int | None = None,
    use_cache: bool = True,
    on_token: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """
    Continue prompts.

    Args:
        model: A `NanoVLM`.
        input_ids: int64 [B, L], shorter ones padded on the left.
        pixel_values: Normalised float tiles [N, 3, S, S] by tower; None: there are no images.
        image_mask: bool [B, L], where the tiles' embeddings stand.
        attention_mask: bool [B, L], False at padding; None: there is none.
        max_new_tokens: Tokens to make.
        sampling: How they are chosen, from scores [B, V]; None: a `Sampling`.
        end_id: Ends a sequence; what comes after it is filled with it.
        use_cache: Keep keys and values, so that each token is computed once. Beyond the model's `max_position` all
            positions turn more slowly the longer the sequence is, which kept keys can't follow: as published, results
            then depend on this.
        on_token: Called with every new token [B].

    Returns:
        int64 [B, max_new_tokens], without the prompts.
    """
    choose = sampling or Sampling()
    mask = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.to(torch.bool)
    places = torch.zeros_like(input_ids, dtype=torch.bool) if image_mask is None else image_mask
    embeds = model.embed(input_ids, places, pixel_values or {})
    cache: list[KeyValues] | None = [] if use_cache else None
    ended = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
    tokens: list[Tensor] = []
    while len(tokens) < max_new_tokens:
        token = choose(model.next_logits(embeds, mask, cache))
        if end_id is not None:
            token = token.masked_fill(ended, end_id)
            ended = ended | (token == end_id)
        tokens.append(token)
        if on_token is not None:
            on_token(token)
        if end_id is not None and bool(ended.all()):
            rest = [torch.full_like(token, end_id)] * (max_new_tokens - len(tokens))
            return torch.stack([*tokens, *rest], dim=1)
        new = model.llm_backbone.embed(token[:, None])
        embeds = new if use_cache else torch.cat([embeds, new], dim=1)
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
    return torch.stack(tokens, dim=1) if tokens else input_ids[:, :0]
