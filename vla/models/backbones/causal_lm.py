"""A Hugging Face causal language model that continues sequences of embeddings.

B samples, L positions, D width, V rows of the token table.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vla.conf.models.language import CausalLMConfig, pad_vocabulary
from vla.models.backbones.hf_models import (
    CAUSAL,
    build_llm,
    check_vocabulary,
    checkpoint_layers,
    decoder_layers,
    load_llm,
    load_tokenizer,
    save_llm,
)
from vla.models.weights_source import WeightsRequest
from vla.tokenization import add_pad_token

FIELD = "model.llm_backbone"  # configuration field of this module


class CausalLM(nn.Module):
    """
    A decoder with its output layer, under the published names `llm.model.*` and `llm.lm_head.*`; float32 parameters.

    The published pad token is added to the tokenizer, and the token table cut or extended to a multiple of 64 rows.

    Args:
        config: Names weights or gives sizes.
        weights: Folder, `.gguf` file or Hugging Face id to load; None builds the same shapes at random, taken from
            the folder `config.weights` where that is one, else from the sizes in `config`.
        assets: Folder written by `save_assets`: shapes and tokenizer come from it, and no weights are loaded.

    Raises:
        UserError: The weights or their tokenizer can't be had.
    """

    def __init__(self, config: CausalLMConfig, weights: str | None = None, assets: Path | None = None) -> None:
        super().__init__()
        self.config, self._weights, self._assets = config, weights, assets
        llm: Any = (
            load_llm(weights, CAUSAL, f"{FIELD}.weights")
            if weights
            else build_llm(config, assets, CAUSAL, config.padded_vocab_size)
        )
        if config.pad_token is not None and assets is None and self._shapes_of_weights:
            rows = pad_vocabulary(len(self._new_tokenizer()), config.pad_to_multiple_of)
            # New rows are drawn as new weights are: published that way, and nothing reads them.
            llm.resize_token_embeddings(rows, mean_resizing=False)
        self.llm = llm
        self.hidden_size: int = llm.config.hidden_size

    @staticmethod
    def weight_requests(config: CausalLMConfig, group: str) -> list[WeightsRequest]:
        """The weights that `config` names, if it does."""
        return [WeightsRequest(group, f"{FIELD}.weights", config.weights)] if config.weights is not None else []

    @property
    def vocab_size(self) -> int:
        """V, padding rows included."""
        return self.llm.config.vocab_size

    @cached_property
    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer with the pad token; loaded when it is first asked for.

        Raises:
            UserError: There is none, or it has more ids than the model.
        """
        tokenizer = self._new_tokenizer()
        check_vocabulary(tokenizer, self.llm, f"{FIELD}.tokenizer")
        return tokenizer

    def embed(self, input_ids: Tensor) -> Tensor:
        """Embeddings [B, L, D] of ids int64 [B, L]."""
        return self.llm.get_input_embeddings()(input_ids)

    def forward(
        self, embeds: Tensor, attention_mask: Tensor | None, position_ids: Tensor | None = None, cache: Any = None
    ) -> Tensor:
        """
        Last hidden states, normalised.

        Args:
            embeds: [B, L, D].
            attention_mask: bool [B, K + L], False at padding, K being the positions that `cache` holds already; or
                [B, 1, L, K + L], which says who sees whom; None: no padding, everybody sees what comes before.
            position_ids: int64 [B, L]; None counts on from what the cache holds.
            cache: `transformers.DynamicCache`, which is extended; None keeps nothing.

        Returns:
            [B, L, D]; what stands at padding means nothing.
        """
        output = self.llm.base_model(
            inputs_embeds=embeds, attention_mask=attention_mask, position_ids=position_ids, past_key_values=cache,
            use_cache=cache is not None, return_dict=True,
        )  # fmt: skip
        return output.last_hidden_state

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores [..., V] of the next token, for hidden states [..., D]; in their data type."""
        return self.llm.get_output_embeddings()(hidden)

    def save_assets(self, folder: Path) -> None:
        """Write what rebuilds this module without its weights: the model's sizes and the tokenizer."""
        save_llm(self.llm, self.tokenizer, folder)

    def fsdp_units(self) -> list[nn.Module]:
        """The decoder layers, in the order in which they run."""
        return decoder_layers(self.llm)

    def last_layer(self) -> frozenset[str]:
        """Names of the parameters of the token table, the last decoder layer and the output layer."""
        parts = (self.llm.get_input_embeddings(), self.fsdp_units()[-1], self.llm.get_output_embeddings())
        chosen = {id(parameter) for part in parts for parameter in part.parameters()}
        return frozenset(name for name, parameter in self.named_parameters() if id(parameter) in chosen)

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Recompute decoder layers in the backward pass (while training)."""
        checkpoint_layers(self.llm, enabled)

    @property
    def _shapes_of_weights(self) -> bool:
        """Whether the shapes are those of the weights, in which the pad token has no place yet."""
        folder = self.config.weights and Path(self.config.weights).expanduser()
        return self._weights is not None or bool(folder and (folder / "config.json").is_file())

    def _new_tokenizer(self) -> Any:
        tokenizer = load_tokenizer(self.config, self._weights, self._assets, f"{FIELD}.tokenizer")
        return add_pad_token(tokenizer, self.config.pad_token)
