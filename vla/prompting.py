"""Prompts of language models: a dialogue as text, in the format that each family of models was trained with.

The formats are those of the published Prismatic models, oddities included, since released weights know nothing else.
"""

from typing import ClassVar

IMAGE_TOKEN = "<image>"  # stands for the image in written dialogues; the model gets its patches instead
ROLES = ("human", "gpt")


class PromptBuilder:
    """One dialogue, human and model in turn. Subclasses say how a turn is written.

    Args:
        system_prompt: what the model is told about itself; None or "" takes the format's own. Formats whose
            `takes_system_prompt` is false leave it out.
        bos: text of the token that begins a sequence; None takes the published one. Most formats leave it to the
            tokenizer.
        eos: text of the token that ends an answer; None takes the published one.
    """

    takes_system_prompt: ClassVar[bool] = False
    default_system_prompt: ClassVar[str] = ""
    published_tokens: ClassVar[tuple[str, str]] = ("<s>", "</s>")  # beginning and end of a sequence
    # A human turn ends in a space. Published SentencePiece models were trained without it, phi-2 with it.
    keeps_trailing_space: ClassVar[bool] = False

    def __init__(self, system_prompt: str | None = None, *, bos: str | None = None, eos: str | None = None) -> None:
        self.system_prompt = (system_prompt or "").strip() or self.default_system_prompt
        self.bos = bos or self.published_tokens[0]
        self.eos = eos or self.published_tokens[1]
        self._turns: list[str] = []

    @property
    def turns(self) -> list[str]:
        """The written turns so far; to train, each is tokenised by itself."""
        return list(self._turns)

    def add_turn(self, role: str, message: str) -> str:
        """Add what `role` says; returns the written turn.

        Raises:
            ValueError: it is the other one's turn ("human" begins).
        """
        expected = ROLES[len(self._turns) % 2]
        if role != expected:
            raise ValueError(f"turn {len(self._turns)} must be from {expected!r}, got {role!r}")
        written = self._human(_clean(message)) if role == "human" else self._answer(_clean(message))
        self._turns.append(written)
        return written

    def get_potential_prompt(self, message: str) -> str:
        """The prompt as it would be if a human now said `message`, which is not added.

        The published builders leave `<image>` and outer spaces in this message, though not in any other; here it is
        cleaned, too. (And see `PhiPromptBuilder`.)
        """
        return ("".join(self._turns) + self._human(_clean(message))).rstrip()

    def get_prompt(self) -> str:
        """All turns as one text without spaces at its end, ready for the model to answer."""
        return "".join(self._turns).rstrip()

    @property
    def _is_first(self) -> bool:
        return not self._turns

    def _human(self, message: str) -> str:
        raise NotImplementedError

    def _answer(self, message: str) -> str:
        return f"{message or ' '}{self.eos}"


class PurePromptBuilder(PromptBuilder):
    """For models that were trained on no dialogues: Llama-2, Mistral, and OpenVLA."""

    def _human(self, message: str) -> str:
        return f"In: {message}\nOut: "


class Llama2ChatPromptBuilder(PromptBuilder):
    """Llama-2-chat. Its opening `<<SYS>` lacks a `>`: the released models were trained with this misprint."""

    takes_system_prompt = True
    default_system_prompt = (
        "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
        "provides, and assist the user with a variety of tasks using natural language."
    )

    def _human(self, message: str) -> str:
        system = f"<<SYS>\n{self.system_prompt}\n<</SYS>>\n\n" if self._is_first else ""
        return f"[INST] {system}{message} [/INST] "


class VicunaPromptBuilder(PromptBuilder):
    """Vicuna v1.5."""

    takes_system_prompt = True
    default_system_prompt = (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions."
    )

    def _human(self, message: str) -> str:
        system = f"{self.system_prompt} " if self._is_first else ""
        return f"{system}USER: {message} ASSISTANT: "


class MistralInstructPromptBuilder(PromptBuilder):
    """Mistral-Instruct v0.1."""

    def _human(self, message: str) -> str:
        return f"[INST] {message} [/INST] "


class PhiPromptBuilder(PromptBuilder):
    """Phi-2, whose tokenizer adds no token at the beginning: the text does.

    As published, `get_potential_prompt` of an empty dialogue lacks that token; `LanguageProcessor.prompt_ids` gives it
    back. The end token follows a line break.
    """

    published_tokens = ("<|endoftext|>", "<|endoftext|>")
    keeps_trailing_space = True

    def add_turn(self, role: str, message: str) -> str:
        is_first = self._is_first
        written = super().add_turn(role, message)
        if is_first:
            self._turns[0] = written = self.bos + written
        return written

    def _human(self, message: str) -> str:
        return f"Input: {message}\nOutput: "

    def _answer(self, message: str) -> str:
        return f"{message or ' '}\n{self.eos}"


PROMPT_BUILDERS: dict[str, type[PromptBuilder]] = {
    "pure": PurePromptBuilder,
    "llama2-chat": Llama2ChatPromptBuilder,
    "vicuna": VicunaPromptBuilder,
    "mistral-instruct": MistralInstructPromptBuilder,
    "phi": PhiPromptBuilder,
}


def get_prompt_builder(
    name: str, system_prompt: str | None = None, *, bos: str | None = None, eos: str | None = None
) -> PromptBuilder:
    """A new dialogue in the format `name`, a key of `PROMPT_BUILDERS`; see `PromptBuilder` for the rest.

    Raises:
        ValueError: there is no such format.
    """
    if name not in PROMPT_BUILDERS:
        raise ValueError(f"prompt must be one of {', '.join(PROMPT_BUILDERS)}, got {name!r}")
    return PROMPT_BUILDERS[name](system_prompt, bos=bos, eos=eos)


def _clean(message: str) -> str:
    return message.replace(IMAGE_TOKEN, "").strip()
