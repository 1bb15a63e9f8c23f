"""`vla report`: runs side by side on one page, or the report of one run anew."""

from vla.commands.program import Action
from vla.conf.report import ReportConfig


def report(config: ReportConfig) -> int:
    """Write the page and print where it is; returns the exit code."""
    from vla.reporting.comparison import write_comparison_or_report  # imports matplotlib

    print(write_comparison_or_report(config))
    return 0


PROGRAM = Action(ReportConfig, report, positional="runs", usage="RUN [RUN ...]")
