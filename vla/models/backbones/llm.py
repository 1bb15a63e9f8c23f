"""A Hugging Face causal language model as an encoder of instructions. B instructions, L tokens, D width."""

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vla.conf.models.components import LLMConfig
from vla.errors import UserError
from vla.models.backbones.tokenizers import InstructionTokenizer, TokenizedText
from vla.models.weights_source import reading_weights
from vla.tokenization import BYTES, get_tokenizer, tokenizer_source
from vla.torchvision_shim import prepare_torchvision

prepare_torchvision()

_GGUF_NEEDS = ("gguf", "accelerate")
_NUM_BYTE_TOKENS = 259  # 256 bytes, padding, end, unknown


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
        model: Any = _load_model(weights) if weights else _build_model(config, assets)
        self.model = model
        self.hidden_size: int = model.config.hidden_size
        self.tokenizer = get_tokenizer(_tokenizer_source(config, weights, assets))
        vocabulary: int = model.config.vocab_size
        if len(self.tokenizer) > vocabulary:
            raise UserError(
                f"model.llm.tokenizer: has {len(self.tokenizer)} ids, but the model's vocabulary is {vocabulary}"
            )
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
        model: Any = self.model
        model.config.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def fsdp_units(self) -> list[nn.Module]:
        """The decoder layers, in the order in which they run."""
        return list(_decoder_layers(self.model))

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Recompute decoder layers in the backward pass (while training)."""
        for name in (
            "activation_checkpointing",
            "gradient_checkpointing",
        ):  # the name from transformers 5 on, and before
            switch = getattr(self.model, f"{name}_{'enable' if enabled else 'disable'}", None)
            if switch is not None:
                switch(**({f"{name}_kwargs": {"use_reentrant": False}} if enabled else {}))
                return


def _build_model(config: LLMConfig, assets: Path | None) -> nn.Module:
    """The shapes of saved assets, of the local folder that `config` names, or of its sizes; at random."""
    from transformers import AutoConfig, AutoModel, LlamaConfig

    folder = assets or (Path(config.weights).expanduser() if config.weights else None)
    if folder is not None and (folder / "config.json").is_file():
        sizes = AutoConfig.from_pretrained(str(folder))
    else:
        sizes = LlamaConfig(  # type: ignore[call-arg]  # rope_theta: by keyword it fits every version
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads,
            max_position_embeddings=config.max_position,
            rope_theta=config.rope_theta,
            rms_norm_eps=config.rms_norm_eps,
            tie_word_embeddings=config.tie_embeddings,
        )
    return AutoModel.from_config(sizes, attn_implementation="sdpa", dtype=torch.float32)


def _load_model(weights: str) -> nn.Module:
    """The pretrained decoder; the file's output layer is left out."""
    from transformers import AutoModel

    options: dict[str, Any] = {"attn_implementation": "sdpa", "dtype": torch.float32}
    if weights.endswith(".gguf"):
        lacking = [name for name in _GGUF_NEEDS if find_spec(name) is None]
        if lacking:
            raise UserError(
                f"model.llm.weights: reading a GGUF file needs {' and '.join(lacking)}: pip install .[gguf]"
            )
        options["gguf_file"] = Path(weights).name
        weights = str(Path(weights).parent)
    with _without_load_report(), reading_weights("model.llm.weights"):
        return AutoModel.from_pretrained(weights, **options)


@contextmanager
def _without_load_report() -> Iterator[None]:
    """Silence transformers' warning that the output layer was left out, which is intended, and its progress bars.

    The bar of GGUF files knows no switch; like all of them it goes to what is the standard error when it starts.
    """
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _tokenizer_source(config: LLMConfig, weights: str | None, assets: Path | None) -> str:
    """Where the tokenizer comes from; without weights nothing is looked up outside of this machine."""
    if config.tokenizer != BYTES and assets is not None:
        return str(assets)
    return tokenizer_source(config.tokenizer, weights or config.weights, pretrained=weights is not None)


def _decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The list of decoder layers, whatever the architecture calls it: the first list found from the top."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return lists[0]
