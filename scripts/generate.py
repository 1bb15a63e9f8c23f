"""Chat with a vision-language model about local pictures.

    python scripts/generate.py --model prism-dinosiglip+7b --image kitchen.jpg
    python scripts/generate.py --model runs/vqa-finetune --image blocks.png --prompt "How many cubes are there?"
    python scripts/generate.py --help

The model is an id with released weights, or the folder of a run. In the chat, /help lists the commands.
"""

import sys

from vla.conf import cli
from vla.conf.generate import GenerateConfig
from vla.overwatch import limit_busy_waiting


def main(config: GenerateConfig) -> int:
    """Chat; returns the exit code."""
    limit_busy_waiting()
    from vla.serving.chat import run  # imports torch, which --help and configuration errors do without

    return run(config)


if __name__ == "__main__":
    sys.exit(cli.run(GenerateConfig, main))
