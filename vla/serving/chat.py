"""A chat in the terminal about local pictures (scripts/generate.py)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vla.conf.generate import GenerateConfig
from vla.errors import UserError
from vla.overwatch.distributed import destroy_distributed, initialize_distributed
from vla.prompting import PromptBuilder
from vla.serving.vlm import VLM, load, read_picture

HELP = """\
/image FILE     look at another picture; begins a new dialogue
/image          look at none
/system TEXT    another system prompt; begins a new dialogue
/history        what was said so far, as the model reads it
/new            forget what was said
/help           this list
/quit           leave (Ctrl-D, too)
Ctrl-C stops an answer."""

Write = Callable[[str], None]


class Chat:
    """One dialogue after the other, with a picture or without.

    Args:
        vlm: answers.
        config: how; its `image` and `system` are what the first dialogue begins with.
        write: takes text as it comes, line ends included.

    Raises:
        UserError: the picture can't be read, or the model takes no system prompt.
    """

    def __init__(self, vlm: VLM, config: GenerateConfig, write: Write) -> None:
        self.vlm, self.config, self._write = vlm, config, write
        self.image: Path | None = None
        self.system = config.system
        self.prompt: PromptBuilder = self._new_dialogue()
        if config.image is not None:
            self.look_at(config.image)

    def say(self, message: str) -> str:
        """Say something; the answer is written as it comes, and returned.

        An interruption (Ctrl-C) keeps what was answered until then.
        """
        self.prompt.add_turn("human", message)
        pieces: list[str] = []

        def on_text(piece: str) -> None:
            pieces.append(piece)
            self._write(piece)

        try:
            self.vlm.generate(
                self.image, self.prompt, on_text=on_text, max_new_tokens=self.config.max_new_tokens,
                temperature=self.config.temperature, top_p=self.config.top_p, seed=self.config.seed,
            )  # fmt: skip
        except KeyboardInterrupt:
            self._write(" [stopped]")
        self._write("\n")
        answer = "".join(pieces).strip()
        self.prompt.add_turn("gpt", answer)
        return answer

    def look_at(self, image: Path | None) -> None:
        """Take another picture, or none, and begin a new dialogue.

        Raises:
            UserError: the picture can't be read; everything stays as it is.
        """
        if image is not None:
            width, height = read_picture(image).size
            self._write(f"{image}: {width} x {height} pixels\n")
        self.image = image
        self.prompt = self._new_dialogue()

    def command(self, line: str) -> bool:
        """Carry out a line that begins with "/"; returns whether to go on.

        Raises:
            UserError: there is no such command, or it can't be done.
        """
        name, _, argument = line[1:].partition(" ")
        argument = argument.strip()
        if name == "image":
            self.look_at(Path(argument).expanduser() if argument else None)
        elif name == "system":
            before, self.system = self.system, argument or None
            try:
                self.prompt = self._new_dialogue()
            except UserError:
                self.system = before
                raise
        elif name == "new":
            self.prompt = self._new_dialogue()
        elif name == "history":
            self._write((self.prompt.get_prompt() or "(nothing was said yet)") + "\n")
        elif name == "help":
            self._write(HELP + "\n")
        elif name in ("quit", "exit"):
            return False
        else:
            raise UserError(f"command: /{name} is not known; /help lists them")
        return True

    def _new_dialogue(self) -> PromptBuilder:
        builder = self.vlm.get_prompt_builder(self.system)
        if self.system and not builder.takes_system_prompt:
            raise UserError(f"system: the prompt format of this model has no place for one, got {self.system!r}")
        return builder


def run(config: GenerateConfig, read: Callable[[str], str] = input, write: Write | None = None) -> int:
    """The program behind scripts/generate.py: load, then answer one prompt, or chat until the input ends.

    Args:
        read: asks for a line; EOFError ends the chat.
        write: takes what is said; None: standard output.

    Returns:
        Exit code 0.
    """
    write = write or _print
    assert config.model is not None
    dist = initialize_distributed(config.device)
    try:
        vlm = load(config.model, device=dist.device, precision=config.precision, tokenizer=config.tokenizer)
        quiet = replace(config, image=None) if config.prompt is not None else config
        chat = Chat(vlm, quiet, write)
        if config.prompt is not None:
            chat.image = config.image
            chat.say(config.prompt)
        else:
            _converse(chat, read, write)
    finally:
        destroy_distributed(dist)
    return 0


def _converse(chat: Chat, read: Callable[[str], str], write: Write) -> None:
    write("Say something, or /help.\n")
    while True:
        try:
            line = read("> ").strip()
        except EOFError:
            write("\n")
            return
        except KeyboardInterrupt:  # at the prompt it only drops the line
            write("\n")
            continue
        try:
            if line.startswith("/"):
                if not chat.command(line):
                    return
            elif line:
                chat.say(line)
        except UserError as error:
            write(f"error: {error}\n")


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
