"""Compare a trained anomaly detector with a memory of patches and with statistics of places, on the same features.

    python scripts/anomaly_baselines.py --checkpoint runs/mvtec-uniad
    python scripts/anomaly_baselines.py --checkpoint runs/mvtec-uniad --per_class --dataset_root DIR

Writes evaluation/baselines/ into the run: a table by class of each, and comparison.md.
"""

import sys

from vla.conf import cli
from vla.conf.anomaly_baselines import BaselinesConfig
from vla.overwatch import limit_busy_waiting


def main(config: BaselinesConfig) -> int:
    """Fit and evaluate; returns the exit code."""
    limit_busy_waiting()
    from vla.training.anomaly_baselines import run  # imports torch, which --help and configuration errors do without

    return run(config)


if __name__ == "__main__":
    sys.exit(cli.run(BaselinesConfig, main))
