"""The run report: one self-contained HTML page made from the files of a run folder."""

from vla.reporting.report import write_report

__all__ = ["write_report"]
