"""`LLMRegistry`: the causal language models that continue text in vision-language models."""

from dataclasses import dataclass
from enum import Enum, unique
from typing import Any, ClassVar

import draccus

from vla.conf.models.components import LLMConfig
from vla.conf.registry import register_enum, variant


@dataclass(frozen=True)
class CausalLMConfig(LLMConfig, draccus.ChoiceRegistry):
    """Base of language models that continue text; what they need besides sizes are facts about the published ones."""

    llm_id: ClassVar[str] = ""
    family: ClassVar[str] = ""  # llama2 | mistral | phi | smollm2 | tiny: default system prompts are kept by it
    label: ClassVar[str] = ""  # for people
    prompt: ClassVar[str] = "pure"  # key of vla.prompting.PROMPT_BUILDERS
    pad_token: ClassVar[str | None] = "<PAD>"  # is added to the tokenizer; None: the tokenizer's own
    pad_to_multiple_of: ClassVar[int] = 64  # rows of the token table, where a token was added
    num_tokens: ClassVar[int | None] = None  # ids of the published tokenizer, where they are not `vocab_size`

    @classmethod
    def default_choice_name(cls) -> str | None:
        """What it is when a file or the command line sets fields of it without naming its type."""
        return "llama2-7b-pure"

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the token table once the pad token is in it; may be fewer than before, if many were unused."""
        if self.pad_token is None:
            return self.vocab_size
        return pad_vocabulary((self.num_tokens or self.vocab_size) + 1, self.pad_to_multiple_of)


def pad_vocabulary(num_tokens: int, multiple: int) -> int:
    """The least multiple of `multiple` that holds `num_tokens` rows."""
    return -(-num_tokens // multiple) * multiple


@variant()
class Llama2_7BPureConfig(CausalLMConfig):  # noqa: N801 - the number's two parts would run together
    """Llama-2 7B, which was taught to continue text only."""

    llm_id: ClassVar[str] = "llama2-7b-pure"
    family: ClassVar[str] = "llama2"
    label: ClassVar[str] = "Llama-2 7B"

    weights: str | None = "meta-llama/Llama-2-7b-hf"


@variant()
class Llama2_13BPureConfig(Llama2_7BPureConfig):  # noqa: N801
    """Llama-2 13B, which was taught to continue text only."""

    llm_id: ClassVar[str] = "llama2-13b-pure"
    label: ClassVar[str] = "Llama-2 13B"

    weights: str | None = "meta-llama/Llama-2-13b-hf"
    hidden_size: int = 5120
    intermediate_size: int = 13824
    num_layers: int = 40
    num_heads: int = 40
    num_kv_heads: int = 40


@variant()
class Llama2_7BChatConfig(Llama2_7BPureConfig):  # noqa: N801
    """Llama-2 7B Chat."""

    llm_id: ClassVar[str] = "llama2-7b-chat"
    label: ClassVar[str] = "Llama-2 Chat 7B"
    prompt: ClassVar[str] = "llama2-chat"

    weights: str | None = "meta-llama/Llama-2-7b-chat-hf"


@variant()
class Llama2_13BChatConfig(Llama2_13BPureConfig):  # noqa: N801
    """Llama-2 13B Chat."""

    llm_id: ClassVar[str] = "llama2-13b-chat"
    label: ClassVar[str] = "Llama-2 Chat 13B"
    prompt: ClassVar[str] = "llama2-chat"

    weights: str | None = "meta-llama/Llama-2-13b-chat-hf"


@variant()
class Vicuna7BConfig(Llama2_7BPureConfig):
    """Vicuna v1.5 7B: Llama-2 that learned from conversations."""

    llm_id: ClassVar[str] = "vicuna-v15-7b"
    label: ClassVar[str] = "Vicuña v1.5 7B"
    prompt: ClassVar[str] = "vicuna"

    weights: str | None = "lmsys/vicuna-7b-v1.5"


@variant()
class Vicuna13BConfig(Llama2_13BPureConfig):
    """Vicuna v1.5 13B: Llama-2 that learned from conversations."""

    llm_id: ClassVar[str] = "vicuna-v15-13b"
    label: ClassVar[str] = "Vicuña v1.5 13B"
    prompt: ClassVar[str] = "vicuna"

    weights: str | None = "lmsys/vicuna-13b-v1.5"


@variant()
class Mistral7BPureConfig(CausalLMConfig):
    """Mistral v0.1 7B, which was taught to continue text only."""

    llm_id: ClassVar[str] = "mistral-v0.1-7b-pure"
    family: ClassVar[str] = "mistral"
    label: ClassVar[str] = "Mistral v0.1 7B"
    architecture: ClassVar[str] = "mistral"

    weights: str | None = "mistralai/Mistral-7B-v0.1"
    intermediate_size: int = 14336
    num_kv_heads: int = 8
    max_position: int = 32768


@variant()
class Mistral7BInstructConfig(Mistral7BPureConfig):
    """Mistral v0.1 7B Instruct."""

    llm_id: ClassVar[str] = "mistral-v0.1-7b-instruct"
    label: ClassVar[str] = "Mistral Instruct v0.1 7B"
    prompt: ClassVar[str] = "mistral-instruct"

    weights: str | None = "mistralai/Mistral-7B-Instruct-v0.1"


@variant()
class Phi2Config(CausalLMConfig):
    """Phi-2, 2.7 billion parameters."""

    llm_id: ClassVar[str] = "phi-2-3b"
    family: ClassVar[str] = "phi"
    label: ClassVar[str] = "Phi-2 3B"
    architecture: ClassVar[str] = "phi"
    extra_sizes: ClassVar[dict[str, Any]] = {"partial_rotary_factor": 0.4}
    prompt: ClassVar[str] = "phi"
    pad_token: ClassVar[str | None] = "<|pad|>"
    num_tokens: ClassVar[int | None] = 50295  # the table's other rows were never used

    weights: str | None = "microsoft/phi-2"
    vocab_size: int = 51200
    hidden_size: int = 2560
    intermediate_size: int = 10240
    max_position: int = 2048


@variant()
class SmolLM2InstructConfig(CausalLMConfig):
    """SmolLM2-135M-Instruct, of the file that scripts/weights.py fetches; small enough for a CPU."""

    llm_id: ClassVar[str] = "smollm2-135m-instruct"
    family: ClassVar[str] = "smollm2"
    label: ClassVar[str] = "SmolLM2 135M Instruct"
    pad_token: ClassVar[str | None] = None

    weights: str | None = "weights/smollm2-135m-instruct.gguf"
    vocab_size: int = 49152
    hidden_size: int = 576
    intermediate_size: int = 1536
    num_layers: int = 30
    num_heads: int = 9
    num_kv_heads: int = 3
    max_position: int = 8192
    rope_theta: float = 100000.0
    tie_embeddings: bool = True


@variant()
class LlamaTinyConfig(CausalLMConfig):
    """Llama-2's architecture with a few thousand parameters, over bytes; for tests."""

    llm_id: ClassVar[str] = "llama-tiny"
    family: ClassVar[str] = "tiny"
    label: ClassVar[str] = "Llama, tiny"

    vocab_size: int = 512
    hidden_size: int = 48
    intermediate_size: int = 96
    num_layers: int = 3
    num_heads: int = 4
    num_kv_heads: int = 4
    max_position: int = 2048
    tokenizer: str | None = "bytes"


@unique
class LLMRegistry(Enum):
    """Language models that come with the toolkit."""

    LLAMA2_7B_PURE = Llama2_7BPureConfig
    LLAMA2_13B_PURE = Llama2_13BPureConfig
    LLAMA2_7B_CHAT = Llama2_7BChatConfig
    LLAMA2_13B_CHAT = Llama2_13BChatConfig
    VICUNA_V15_7B = Vicuna7BConfig
    VICUNA_V15_13B = Vicuna13BConfig
    MISTRAL_V01_7B_PURE = Mistral7BPureConfig
    MISTRAL_V01_7B_INSTRUCT = Mistral7BInstructConfig
    PHI_2_3B = Phi2Config
    SMOLLM2_135M_INSTRUCT = SmolLM2InstructConfig
    LLAMA_TINY = LlamaTinyConfig

    @property
    def llm_id(self) -> str:
        """The name that users write as the language model's type."""
        return self.value.llm_id


register_enum(CausalLMConfig, LLMRegistry, "llm_id")
