"""What OpenVLA's language model reads: a question about an instruction, and the answer in action tokens.

B samples, N action tokens of an answer, L tokens of the longest sequence.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vla.batches import IGNORE_INDEX
from vla.overwatch import initialize_overwatch
from vla.prompting import get_prompt_builder
from vla.tokenization import encode, pad_id

overwatch = initialize_overwatch(__name__)

QUESTION = "What action should the robot take to {instruction}?"
_MAX_REMEMBERED = 4096


class ActionText(NamedTuple):
    """Questions with their answers, padded on the right."""

    input_ids: Tensor  # int64 [B, L]
    attention_mask: Tensor  # bool [B, L], False at padding
    starts: Tensor  # int64 [B], place of the first action token: the length of the question

    def places(self, count: int) -> Tensor:
        """Places int64 [B, count] of the first `count` tokens after the questions."""
        return self.starts[:, None] + torch.arange(count, device=self.starts.device)

    def labels(self, num_tokens: int) -> Tensor:
        """Labels int64 [B, L], not shifted: the first `num_tokens` tokens after the questions."""
        places = self.places(num_tokens)
        labels = torch.full_like(self.input_ids, IGNORE_INDEX)
        return labels.scatter(1, places, self.input_ids.gather(1, places))


class ActionPrompter:
    """
    Instructions to questions, as token ids.

    Between question and answer stands a space: published models were trained with the token that a Llama tokenizer
    makes of it (29871), since it was the answer's first character.

    Args:
        tokenizer: Of the language model.
        prompt: Key of `vla.prompting.PROMPT_BUILDERS`.
        max_instruction_tokens: Longer instructions are cut, with a warning.
    """

    def __init__(self, tokenizer: Any, prompt: str, max_instruction_tokens: int) -> None:
        self.tokenizer, self.prompt, self.max_instruction_tokens = tokenizer, prompt, max_instruction_tokens
        self.end_id: int = tokenizer.eos_token_id
        self.question_ids = lru_cache(_MAX_REMEMBERED)(self._question_ids)

    def _question_ids(self, instruction: str) -> tuple[int, ...]:
        """Ids of the question about an instruction, up to where the action begins."""
        tokenizer = self.tokenizer
        builder = get_prompt_builder(self.prompt, bos=tokenizer.bos_token, eos=tokenizer.eos_token)
        question = QUESTION.format(instruction=self._shortened(instruction).lower())
        return tuple(encode(tokenizer, builder.get_potential_prompt(question) + " ", first=True))

    def __call__(self, instructions: list[str], answers: Tensor | None = None) -> ActionText:
        """
        Questions, with answers and the end token behind them if there are any.

        Args:
            instructions: B texts.
            answers: int64 [B, N], of action tokens; None asks only.

        Returns:
            Tensors on the device of `answers`, else on the CPU.
        """
        questions = [self.question_ids(text) for text in instructions]
        longest = max(map(len, questions))
        starts = torch.tensor([len(ids) for ids in questions])
        padding = pad_id(self.tokenizer)
        input_ids = torch.tensor([[*ids, *[padding] * (longest - len(ids))] for ids in questions])
        if answers is None:
            return ActionText(input_ids, torch.arange(longest) < starts[:, None], starts)
        device, size = answers.device, answers.shape[1] + 1
        starts, input_ids = starts.to(device), input_ids.to(device)
        answers = torch.cat((answers, answers.new_full((len(answers), 1), self.end_id)), dim=1)
        input_ids = torch.cat((input_ids, input_ids.new_full(answers.shape, padding)), dim=1)
        text = ActionText(input_ids, torch.arange(longest + size, device=device) < starts[:, None] + size, starts)
        return text._replace(input_ids=input_ids.scatter(1, text.places(size), answers))

    def _shortened(self, instruction: str) -> str:
        ids = self.tokenizer(instruction, add_special_tokens=False, verbose=False)["input_ids"]
        if len(ids) <= self.max_instruction_tokens:
            return instruction
        overwatch.warning(
            f"Instruction cut from {len(ids)} to {self.max_instruction_tokens} tokens "
            f"(--model.processor.max_instruction_tokens): {instruction!r}"
        )
        return self.tokenizer.decode(ids[: self.max_instruction_tokens])
