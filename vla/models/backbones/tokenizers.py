"""Instructions as right-padded token ids. B instructions, L tokens."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from vla.overwatch import initialize_overwatch
from vla.tokenization import pad_id

overwatch = initialize_overwatch(__name__)

_MAX_WARNINGS = 3
_MAX_REMEMBERED = 4096


class TokenizedText(NamedTuple):
    """Token ids on the CPU, padded on the right."""

    input_ids: Tensor  # int64 [B, L]
    attention_mask: Tensor  # int64 [B, L], 1 for tokens and 0 for padding


class InstructionTokenizer:
    """
    Instructions to token ids; remembers the ones it has seen.

    Args:
        tokenizer: A Hugging Face tokenizer.
        max_tokens: Longer instructions are cut to this many tokens, with a warning.
    """

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.num_truncated = 0  # distinct instructions that were too long
        self.pad_id: int = pad_id(tokenizer)
        self._ids: dict[str, list[int]] = {}

    def lengths(self, texts: list[str]) -> list[int]:
        """Number of tokens of every text, at least 1."""
        return [len(self._encode(text)) for text in texts]

    def __call__(self, texts: list[str], length: int | None = None) -> TokenizedText:
        """
        Args:
            texts: B instructions; empty ones are fine.
            length: L; None takes the longest of `texts`.

        Returns:
            Ids and mask [B, L]; every row has at least one token.
        """
        rows = [self._encode(text) for text in texts]
        length = length or max(map(len, rows))
        input_ids = torch.full((len(rows), length), self.pad_id)
        mask = torch.zeros_like(input_ids)
        for index, row in enumerate(rows):
            input_ids[index, : len(row)] = torch.tensor(row)
            mask[index, : len(row)] = 1
        return TokenizedText(input_ids, mask)

    def _encode(self, text: str) -> list[int]:
        if text in self._ids:
            return self._ids[text]
        ids = list(self.tokenizer(text)["input_ids"]) or [self._stand_in()]
        if len(ids) > self.max_tokens:
            self.num_truncated += 1
            if self.num_truncated <= _MAX_WARNINGS:
                overwatch.warning(
                    f"Instruction cut from {len(ids)} to {self.max_tokens} tokens ({self.num_truncated} so far; "
                    f"--model.processor.max_instruction_tokens): {text!r}"
                )
            ids = ids[: self.max_tokens]
        if len(self._ids) >= _MAX_REMEMBERED:
            self._ids.clear()
        self._ids[text] = ids
        return ids

    def _stand_in(self) -> int:
        """One token for an empty text where the tokenizer gives none: attention needs something to see."""
        first, last = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        return next(token for token in (first, last, self.pad_id) if token is not None)
