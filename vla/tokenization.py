"""Tokenizers of language models, and text as token ids, the same under every version of transformers.

A tokenizer's class says little: versions of transformers rename classes, and rebuild a tokenizer of a known class from
its vocabulary instead of reading its file as it is. So the file is read as it is, and what a tokenizer does is found
out by trying.
"""

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

from vla.errors import UserError
from vla.torchvision_shim import prepare_torchvision

BYTES = "bytes"
_GGUF_TOKENS = {
    "bos_token": "tokenizer.ggml.bos_token_id",
    "eos_token": "tokenizer.ggml.eos_token_id",
    "pad_token": "tokenizer.ggml.padding_token_id",
}
_SPACE_MARK = "\u2581"  # SentencePiece writes a space like this


def tokenizer_source(tokenizer: str | None, weights: str | None, *, pretrained: bool) -> str:
    """Which tokenizer a language model's configuration means, for `get_tokenizer`.

    Args:
        tokenizer: a folder, a `.gguf` file, a Hugging Face id, `bytes`, or None: that of the weights.
        weights: a folder, a `.gguf` file, a Hugging Face id, or None.
        pretrained: whether the weights are used. If not, nothing is looked up outside of this machine, and `bytes`
            stands in for what is not here.
    """
    names = [name for name in (tokenizer, weights) if name is not None]
    if names and (pretrained or names[0] == BYTES):
        return names[0]
    return next((name for name in names if Path(name).expanduser().exists()), BYTES)


def get_tokenizer(source: str, field: str = "model.llm.tokenizer") -> Any:
    """
    A Hugging Face tokenizer.

    Args:
        source: A folder, a `.gguf` file, a Hugging Face id, or `bytes`: UTF-8 bytes, 259 ids, no files needed.
        field: The configuration field that errors name.

    Raises:
        UserError: The source holds no tokenizer.
    """
    prepare_torchvision()
    from transformers import AutoTokenizer, ByT5Tokenizer

    if source == BYTES:
        return ByT5Tokenizer(extra_ids=0)
    try:
        path = Path(source).expanduser()
        if path.suffix == ".gguf":
            return _read_gguf(path)
        if path.is_dir():
            return _as_written(path) or AutoTokenizer.from_pretrained(str(path))
        tokenizer = AutoTokenizer.from_pretrained(source)  # brings the files into the cache
        return _as_written(_cached_folder(source)) or tokenizer
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{field}: no tokenizer in '{source}' ({reason}); pass --{field} DIR or 'bytes'") from error


def add_pad_token(tokenizer: Any, pad_token: str | None) -> Any:
    """Give `tokenizer` the padding token that a model was published with, and padding on the right; returns it.

    Args:
        tokenizer: changed in place.
        pad_token: a text that becomes a token of its own, after all others if it is new; None: the tokenizer's own.
    """
    tokenizer.padding_side = "right"
    if pad_token is not None and tokenizer.pad_token != pad_token:
        tokenizer.add_special_tokens({"pad_token": pad_token})
    return tokenizer


def pad_id(tokenizer: Any) -> int:
    """The id to fill up rows with; rows' lengths, not this id, say what is padding (it may be the end token, too)."""
    candidates = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(token for token in candidates if token is not None)


def first_id(tokenizer: Any) -> int:
    """The id that begins every sequence; a tokenizer without such a token begins with the one that ends sequences.

    Raises:
        UserError: it has neither.
    """
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise UserError("model.llm_backbone.tokenizer: has neither a beginning (bos) nor an end (eos) token")


def encode(tokenizer: Any, text: str, *, first: bool) -> list[int]:
    """Token ids of a piece of text, with special tokens only where the text writes them.

    Args:
        tokenizer: of a language model.
        text: a turn of a dialogue, or a whole prompt.
        first: whether it begins the sequence: then `first_id` comes in front, unless the text wrote it. (Published
            models rely on their tokenizers for it, which not all of them do.)
    """
    ids: list[int] = list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    if first and ids[:1] != [first_id(tokenizer)]:
        ids.insert(0, first_id(tokenizer))
    return ids


def marks_words(tokenizer: Any) -> bool:
    """Whether it begins every text with the mark of a space, as SentencePiece does (Llama, Mistral).

    Such a tokenizer makes a token of its own of a space at the end of a text, and of the next text's first word the
    same token as within a sentence.
    """
    ids = tokenizer("x", add_special_tokens=False)["input_ids"]
    return str(tokenizer.convert_ids_to_tokens(ids)[0]).startswith(_SPACE_MARK)


def _read_gguf(path: Path) -> Any:
    """A copy of the tokenizer in a GGUF file: callers add tokens to theirs.

    Raises:
        OSError: there is no such file.
        ValueError: it can't be read, for whatever reason its reader stumbles over.
    """
    changed = path.stat().st_mtime_ns
    try:
        return deepcopy(_from_gguf(path, changed))
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


@lru_cache(maxsize=2)
def _from_gguf(path: Path, changed: int) -> Any:
    """The tokenizer in a GGUF file, which takes seconds to read; a run's processor and its model both want it."""
    from transformers import AutoTokenizer

    with _quiet():  # about what is unusual in files of this kind
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for name, key in _GGUF_TOKENS.items():  # versions of transformers before 5 take some of them for others
            token = _gguf_integer(content, key)
            if token is not None:
                setattr(tokenizer, name, tokenizer.convert_ids_to_tokens(token))
    return tokenizer


def _gguf_integer(content: mmap.mmap, key: str) -> int | None:
    """A 32-bit field of a GGUF file's header: the key, its type (4: unsigned, 5: signed) and the value."""
    place = content.find(key.encode())
    if place < 0:
        return None
    kind, value = struct.unpack_from("<II", content, place + len(key))
    return value if kind in (4, 5) else None


def _as_written(folder: Path | None) -> Any:
    """The tokenizer that `tokenizer.json` describes; None where there is no such file."""
    if folder is None or not (folder / "tokenizer.json").is_file():
        return None
    from transformers import PreTrainedTokenizerFast

    with _quiet():  # about the class that the folder names
        return PreTrainedTokenizerFast.from_pretrained(str(folder))


def _cached_folder(name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "tokenizer.json")
    return Path(found).parent if isinstance(found, str) else None


@contextmanager
def _quiet() -> Iterator[None]:
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
