"""`vla evaluate`: open loop, or by flags in the simulator, of a watcher, on pictures, on benchmarks."""

from vla.commands.program import Action, ByFlag
from vla.conf.closed_loop import ClosedLoopConfig
from vla.conf.evaluate import EvaluateConfig
from vla.conf.lmms import LmmsConfig
from vla.conf.questions import QuestionsConfig
from vla.conf.watching import CalibrateConfig
from vla.overwatch import limit_busy_waiting


def evaluate(config: EvaluateConfig) -> int:
    """Evaluate on held-out data; returns the exit code."""
    limit_busy_waiting()
    from vla.reporting import write_report
    from vla.training.evaluate import run  # imports torch, which --help and configuration errors do without

    return run(config, write_report)


def closed_loop(config: ClosedLoopConfig) -> int:
    """Evaluate in the simulator; returns the exit code."""
    limit_busy_waiting()
    from vla.reporting import write_report
    from vla.serving.closed_loop import run

    return run(config, write_report)


def calibrate(config: CalibrateConfig) -> int:
    """Give a watcher its threshold; returns the exit code."""
    limit_busy_waiting()
    from vla.serving.watching.calibration import run

    return run(config)


def questions(config: QuestionsConfig) -> int:
    """Ask about pictures; returns the exit code."""
    limit_busy_waiting()
    from vla.serving.question_answering import run

    return run(config)


def lmms(config: LmmsConfig) -> int:
    """Evaluate on benchmarks; returns the exit code."""
    limit_busy_waiting()
    from vla.serving.lmms import run

    return run(config)


PROGRAM = ByFlag(
    {
        "--suite": Action(ClosedLoopConfig, closed_loop),
        "--false_alarm_rate": Action(CalibrateConfig, calibrate),
        "--questions": Action(QuestionsConfig, questions),
        "--lmms_tasks": Action(LmmsConfig, lmms),
    },
    default=Action(EvaluateConfig, evaluate),
)
