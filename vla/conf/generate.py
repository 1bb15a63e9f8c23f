"""`GenerateConfig`: a chat with a vision-language model in the terminal."""

from dataclasses import dataclass
from pathlib import Path

from vla.conf.checks import require, require_choice, require_fraction, require_nonnegative, require_positive


@dataclass(frozen=True)
class GenerateConfig:
    """Chat with a vision-language model about local pictures, or, with `prompt`, have one answer."""

    model: str | None = None  # an id with released weights, or the folder of a run or checkpoint
    image: Path | None = None  # the picture to begin with
    prompt: str | None = None  # ask this, print the answer and stop
    system: str | None = None  # system prompt; none: the one that the model was trained with
    max_new_tokens: int = 512  # of an answer
    temperature: float = 0.0  # 0: the likeliest token each time; else drawn, the more freely the higher
    top_p: float = 1.0  # draw only among the likeliest tokens that together reach this probability
    seed: int = 0  # of what is drawn
    tokenizer: str | None = None  # for released weights: folder or id of the language model's tokenizer
    device: str = "auto"  # auto (CUDA when there is any) | cpu | cuda
    precision: str = "fp32"  # fp32 | bf16 | fp16

    def __post_init__(self) -> None:
        require("model", self.model is not None, "must be a model's id or the folder of a run", self.model)
        require_positive(self, "max_new_tokens")
        require_nonnegative(self, "temperature", "seed")
        require_fraction(self, "top_p")
        require_choice(self, "device", ("auto", "cpu", "cuda"))
        require_choice(self, "precision", ("fp32", "bf16", "fp16"))
