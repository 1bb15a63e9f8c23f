"""Evaluate a trained model on its held-out data, or, with --suite, acting in the LIBERO simulator, or, with
--questions, by what it answers about pictures.

    python scripts/evaluate.py --checkpoint runs/quickstart
    python scripts/evaluate.py --checkpoint runs/quickstart/checkpoints/step-000120 --max_batches 4
    python scripts/evaluate.py --checkpoint runs/quickstart --suite libero-object --episodes 20 --workers 2
    python scripts/evaluate.py --suite libero-object --policy expert --tasks 0,3 --episodes 5
    python scripts/evaluate.py --suite libero-object --help
    python scripts/evaluate.py --checkpoint runs/vqa-finetune --questions data/vqa-rendered/validation.json

Open loop compares predictions with demonstrations. Closed loop counts successes after a self-audit of simulator and
checkpoint; it goes on where an earlier call with the same options was interrupted. Both rewrite the run's report.html.
"""

import sys

from vla.conf import cli
from vla.conf.closed_loop import ClosedLoopConfig
from vla.conf.evaluate import EvaluateConfig
from vla.conf.questions import QuestionsConfig
from vla.overwatch import limit_busy_waiting


def main(config: EvaluateConfig) -> int:
    """Evaluate on held-out episodes; returns the exit code."""
    limit_busy_waiting()
    from vla.reporting import write_report
    from vla.training.evaluate import run  # imports torch, which --help and configuration errors do without

    return run(config, write_report)


def main_closed_loop(config: ClosedLoopConfig) -> int:
    """Evaluate in the simulator; returns the exit code."""
    limit_busy_waiting()
    from vla.reporting import write_report
    from vla.serving.closed_loop import run

    return run(config, write_report)


def main_questions(config: QuestionsConfig) -> int:
    """Ask about pictures; returns the exit code."""
    limit_busy_waiting()
    from vla.serving.question_answering import run

    return run(config)


if __name__ == "__main__":
    flags = {word.partition("=")[0] for word in sys.argv[1:]}
    if "--suite" in flags:
        sys.exit(cli.run(ClosedLoopConfig, main_closed_loop))
    if "--questions" in flags:
        sys.exit(cli.run(QuestionsConfig, main_questions))
    sys.exit(cli.run(EvaluateConfig, main))
