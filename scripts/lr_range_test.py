"""Find a learning rate: train a few steps with one that grows exponentially, and plot the loss against it.

    python scripts/lr_range_test.py --config_path experiments/quickstart.yaml --range_steps 60

Takes every option of pretrain.py. Writes lr_range_test.json and lr_range_test.png to <run folder>+lr-range-test.
"""

import sys

from vla.conf import cli
from vla.conf.lr_range_test import LRRangeTestConfig
from vla.overwatch import limit_busy_waiting


def main(config: LRRangeTestConfig) -> int:
    """Run the test; returns the exit code."""
    limit_busy_waiting()
    from vla.reporting.range_test import plot_range_test
    from vla.training.lr_range_test import run

    return run(config, plot_range_test)


if __name__ == "__main__":
    sys.exit(cli.run(LRRangeTestConfig, main))
