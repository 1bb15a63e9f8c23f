"""Hugging Face language models, with or without an output layer: built at random, or read with their weights."""

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vla.conf.models.components import LLMConfig
from vla.errors import UserError
from vla.models.weights_source import reading_weights
from vla.tokenization import BYTES, get_tokenizer, tokenizer_source
from vla.torchvision_shim import prepare_torchvision

prepare_torchvision()

DECODER, CAUSAL = "AutoModel", "AutoModelForCausalLM"  # transformers' factories: without and with an output layer
_GGUF_NEEDS = ("gguf", "accelerate")


def build_llm(config: LLMConfig, assets: Path | None, factory: str, vocab_size: int | None = None) -> Any:
    """
    A model at random, float32.

    Args:
        config: Names a local folder with a `config.json`, which then decides, or gives sizes.
        assets: Folder written by `save_llm`; it decides before `config`.
        factory: `DECODER` or `CAUSAL`.
        vocab_size: Instead of the one in `config`, where its sizes decide.
    """
    import transformers

    folder = assets or (Path(config.weights).expanduser() if config.weights else None)
    if folder is not None and (folder / "config.json").is_file():
        sizes = transformers.AutoConfig.from_pretrained(str(folder))
    else:
        sizes = transformers.AutoConfig.for_model(
            config.architecture,
            vocab_size=vocab_size or config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads,
            max_position_embeddings=config.max_position,
            rope_theta=config.rope_theta,
            tie_word_embeddings=config.tie_embeddings,
            **_norm(config),
            **config.extra_sizes,
        )
    return getattr(transformers, factory).from_config(sizes, attn_implementation="sdpa", dtype=torch.float32)


def _norm(config: LLMConfig) -> dict[str, float]:
    name = "layer_norm_eps" if config.architecture == "phi" else "rms_norm_eps"
    return {name: config.rms_norm_eps}


def load_llm(weights: str, factory: str, field: str) -> Any:
    """
    A pretrained model, float32.

    Args:
        weights: Folder, `.gguf` file or Hugging Face id.
        factory: `DECODER` (the file's output layer is left out) or `CAUSAL`.
        field: The configuration field that names the weights, for errors.

    Raises:
        UserError: The weights can't be read, or are a GGUF file and the packages for it are not installed.
    """
    import transformers

    options: dict[str, Any] = {"attn_implementation": "sdpa", "dtype": torch.float32}
    if weights.endswith(".gguf"):
        lacking = [name for name in _GGUF_NEEDS if find_spec(name) is None]
        if lacking:
            raise UserError(f"{field}: reading a GGUF file needs {' and '.join(lacking)}: pip install .[gguf]")
        options["gguf_file"] = Path(weights).name
        weights = str(Path(weights).parent)
    with _without_load_report(), reading_weights(field):
        return getattr(transformers, factory).from_pretrained(weights, **options)


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


def load_tokenizer(config: LLMConfig, weights: str | None, assets: Path | None, field: str) -> Any:
    """
    The tokenizer of a model built or loaded from the same arguments; without weights nothing is looked up outside.

    Raises:
        UserError: There is none.
    """
    source = tokenizer_source(config.tokenizer, weights or config.weights, pretrained=weights is not None)
    if config.tokenizer != BYTES and assets is not None:
        source = str(assets)
    return get_tokenizer(source, field)


def check_vocabulary(tokenizer: Any, model: Any, field: str) -> None:
    """Raise UserError unless the model has a row for each of the tokenizer's ids."""
    vocabulary: int = model.config.vocab_size
    if len(tokenizer) > vocabulary:
        raise UserError(f"{field}: has {len(tokenizer)} ids, but the model's vocabulary is {vocabulary}")


def save_llm(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write what rebuilds a model without its weights: its sizes and its tokenizer."""
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """The decoder layers in the order in which they run, whatever the architecture calls their list: the first one."""
    return list(next(module for module in model.modules() if isinstance(module, nn.ModuleList)))


def checkpoint_layers(model: nn.Module, enabled: bool) -> None:
    """Recompute decoder layers in the backward pass (while training), or no longer."""
    for name in ("activation_checkpointing", "gradient_checkpointing"):  # the name from transformers 5 on, and before
        switch: Any = getattr(model, f"{name}_{'enable' if enabled else 'disable'}", None)
        if switch is not None:
            switch(**({f"{name}_kwargs": {"use_reentrant": False}} if enabled else {}))
            return
