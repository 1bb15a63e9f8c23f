"""Train a registered model on a registered dataset: `python scripts/pretrain.py`, or the same under `torchrun`.

torchrun scripts/pretrain.py --model.type vggt-llama-7b --stage align
python scripts/pretrain.py --config_path experiments/quickstart.yaml --model.full_finetune.learning_rate 5e-4

The same as `vla train`.
"""

import sys

from vla.commands.train import PROGRAM
from vla.conf.pretrain import PretrainConfig


def main(config: PretrainConfig) -> int | None:
    """Train, or show the plan; returns the exit code."""
    return PROGRAM.function(config)


if __name__ == "__main__":
    sys.exit(PROGRAM.run(sys.argv[1:]))
