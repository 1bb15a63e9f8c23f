"""Train a registered model on a registered dataset: `python scripts/pretrain.py`, or the same under `torchrun`.

torchrun scripts/pretrain.py --model.type vggt-llama-7b --stage align
python scripts/pretrain.py --config_path experiments/quickstart.yaml --model.full_finetune.learning_rate 5e-4
"""

import sys

from vla.conf import cli
from vla.conf.pretrain import PretrainConfig
from vla.overwatch import limit_busy_waiting


def main(config: PretrainConfig) -> int:
    """Train, or show the plan; returns the exit code."""
    limit_busy_waiting()
    # These import torch, which --help and configuration errors do without.
    from vla.reporting import write_report
    from vla.training.pretrain import run

    return run(config, write_report)


if __name__ == "__main__":
    sys.exit(cli.run(PretrainConfig, main))
