"""`vla train`: train a registered model on a registered dataset, or show the plan (scripts/pretrain.py)."""

from vla.commands.program import Action
from vla.conf.pretrain import PretrainConfig
from vla.overwatch import limit_busy_waiting
from vla.training.signals import leaving_on_signal


def train(config: PretrainConfig) -> int:
    """Train, or show the plan; returns the exit code."""
    limit_busy_waiting()
    with leaving_on_signal():  # importing takes seconds, in which a scheduler may have other plans
        # These import torch, which --help and configuration errors do without.
        from vla.reporting import write_report
        from vla.training.pretrain import run

        return run(config, write_report)


PROGRAM = Action(PretrainConfig, train)
