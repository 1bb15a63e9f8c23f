"""A Hugging Face causal language model as an encoder of instructions. B instructions, L tokens, D width."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vla.conf.models.components import LLMConfig
from vla.models.backbones.hf_models import (
    DECODER,
    build_llm,
    check_vocabulary,
    checkpoint_layers,
    decoder_layers,
    load_llm,
    load_tokenizer,
    save_llm,
)
from vla.models.backbones.tokenizers import InstructionTokenizer, TokenizedText

FIELD = "model.llm"  # configuration field of this module


class LLMBackbone(nn.Module):
    """
    The decoder of a causal language model without its output layer, and its tokenizer. Parameters are float32.

    Args:
        config: Names weights or gives sizes.
        max_tokens: Longer instructions are cut.
        weights: Folder, `.gguf` file or Hugging Face id to load; None builds the same shapes at random, taken from
            the folder `config.weights` where that is one, else from the sizes in `config`.
        assets: Folder written by `save_assets`: shapes and tokenizer come from it, and no weights are loaded.

    Raises:
        UserError: The tokenizer can't be had, or has more ids than the model; the weights can't be read, or are a GGUF
            file and the packages for it are not installed.
    """

    def __init__(
        self, config: LLMConfig, max_tokens: int, weights: str | None = None, assets: Path | None = None
    ) -> None:
        super().__init__()
        self.max_tokens = max_tokens
        model: Any = load_llm(weights, DECODER, f"{FIELD}.weights") if weights else build_llm(config, assets, DECODER)
        self.model = model
        self.hidden_size: int = model.config.hidden_size
        self.tokenizer = load_tokenizer(config, weights, assets, f"{FIELD}.tokenizer")
        check_vocabulary(self.tokenizer, model, f"{FIELD}.tokenizer")
        self._encoder = InstructionTokenizer(self.tokenizer, max_tokens)

    def tokenize(self, instructions: list[str], length: int | None = None) -> TokenizedText:
        """Ids and mask [B, L] on the CPU, padded on the right to `length` or to the longest; see `lengths`."""
        return self._encoder(instructions, length)

    def lengths(self, instructions: list[str]) -> list[int]:
        """Number of tokens of every instruction, in [1, max_tokens]."""
        return self._encoder.lengths(instructions)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """
        Last hidden states.

        Args:
            input_ids: int64 [B, L].
            attention_mask: [B, L], 1 for tokens, 0 for padding on the right.

        Returns:
            [B, L, D]; what stands at padding means nothing, and padding doesn't change the rest.
        """
        output = self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, return_dict=True)
        return output.last_hidden_state

    def save_assets(self, folder: Path) -> None:
        """Write what rebuilds this module without its weights: the model's sizes and the tokenizer."""
        save_llm(self.model, self.tokenizer, folder)

    def fsdp_units(self) -> list[nn.Module]:
        """The decoder layers, in the order in which they run."""
        return decoder_layers(self.model)

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Recompute decoder layers in the backward pass (while training)."""
        checkpoint_layers(self.model, enabled)
