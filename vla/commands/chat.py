"""`vla chat`: talk with a vision-language model about local pictures (scripts/generate.py)."""

from vla.commands.program import Action
from vla.conf.generate import GenerateConfig
from vla.overwatch import limit_busy_waiting


def chat(config: GenerateConfig) -> int:
    """Chat; returns the exit code."""
    limit_busy_waiting()
    from vla.serving.chat import run  # imports torch, which --help and configuration errors do without

    return run(config)


PROGRAM = Action(GenerateConfig, chat)
