"""Evaluate a trained model on its held-out episodes, open loop, and rewrite its report.

python scripts/evaluate.py --checkpoint runs/quickstart
python scripts/evaluate.py --checkpoint runs/quickstart/checkpoints/step-000120 --max_batches 4
"""

import sys

from vla.conf import cli
from vla.conf.evaluate import EvaluateConfig


def main(config: EvaluateConfig) -> int:
    from vla.training.evaluate import run  # imports torch, which --help and configuration errors do without

    return run(config)


if __name__ == "__main__":
    sys.exit(cli.run(EvaluateConfig, main))
