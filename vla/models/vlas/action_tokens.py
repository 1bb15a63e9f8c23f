"""Actions as tokens: a vocabulary's last ids stand for bins of [-1, 1] (OpenVLA, arXiv 2406.09246).

Shapes: ... any leading dimensions, A action dimensions. Ids are made and read as numbers; text is never involved.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class TokenComparison(NamedTuple):
    """Predicted action tokens against demonstrated ones; all tensors have the shape of the labels."""

    is_action: Tensor  # bool; False where the label is no action token: nothing is compared there
    correct: Tensor  # bool; the very same token
    l1: Tensor  # float64; absolute difference of the two actions


class ActionTokenizer:
    """
    Values in [-1, 1] to token ids and back.

    There are `bins` edges from -1 to 1. A value between edges d and d + 1 (counted from 1) has the id
    `vocab_size - d`, so that -1 has the highest id; +1 has an id of its own, which is read as the last bin.

    Args:
        vocab_size: Ids of the tokenizer without what was added to it: 32,000 of Llama-2, whose embeddings are padded
            to 32,064.
        bins: Number of edges, and of ids.

    Example:
        >>> tokens = ActionTokenizer(32000)
        >>> tokens.encode(torch.tensor([-1.0, 0.0, 1.0]))
        tensor([31999, 31872, 31744])
    """

    def __init__(self, vocab_size: int, bins: int = 256) -> None:
        if not 2 <= bins <= vocab_size:
            raise ValueError(f"action_bins: must be in [2, {vocab_size}], got {bins}")
        self.vocab_size, self.bins = vocab_size, bins
        edges = np.linspace(-1.0, 1.0, bins)
        self._edges = torch.from_numpy(edges)
        self._centers = torch.from_numpy((edges[:-1] + edges[1:]) / 2)

    @property
    def begin_id(self) -> int:
        """The id before the first action token: action tokens are greater (`action_token_begin_idx` as published)."""
        return self.vocab_size - self.bins - 1

    @property
    def first_id(self) -> int:
        """The lowest id of an action token; the highest is `vocab_size - 1`."""
        return self.vocab_size - self.bins

    def encode(self, actions: Tensor) -> Tensor:
        """
        Token ids.

        Args:
            actions: float [...]; beyond [-1, 1] clipped. Compared with the edges in float64, so that a float32 value
                just below an edge that float32 can't hold may get another id than its float64 original.

        Returns:
            int64 [...].
        """
        edges = self._edges.to(actions.device)
        digits = torch.bucketize(actions.clamp(-1.0, 1.0).double(), edges, right=True)
        return self.vocab_size - digits

    def decode(self, token_ids: Tensor) -> Tensor:
        """Centers of the bins, float64 [...], of ids [...]; ids below and above the action tokens count as the ends."""
        index = (self.vocab_size - token_ids - 1).clamp(0, self.bins - 2)
        return self._centers.to(token_ids.device)[index]

    def compare(self, predicted: Tensor, labels: Tensor) -> TokenComparison:
        """How far predicted ids [...] are from labels [...] of the same shape.

        Over the labels that are action tokens, the means of `correct` and of `l1` are the published
        `Action Token Accuracy` and `L1 Loss`; a predicted id that stands for no action is read as the nearest one.
        """
        l1 = (self.decode(predicted) - self.decode(labels)).abs()
        return TokenComparison(labels > self.begin_id, predicted == labels, l1)
