"""`vla train`: train a registered model on a registered dataset, or show the plan (scripts/pretrain.py)."""

from vla.commands.program import Action
from vla.conf.pretrain import PretrainConfig
from vla.overwatch import limit_busy_waiting


def train(config: PretrainConfig) -> int:
    """Train, or show the plan; returns the exit code."""
    limit_busy_waiting()
    # These import torch, which --help and configuration errors do without.
    from vla.reporting import write_report
    from vla.training.pretrain import run

    return run(config, write_report)


PROGRAM = Action(PretrainConfig, train)
