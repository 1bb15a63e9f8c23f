"""`vla report`: several runs on one page: what differs in their configurations, their final figures, their curves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from vla.conf.report import ReportConfig
from vla.errors import UserError
from vla.reporting import figures, summary
from vla.reporting.comparison_tables import Table, config_table, final_table, version_table
from vla.reporting.figures import RUNS, Line, css_colour
from vla.reporting.report import page_environment, write_page, write_report
from vla.reporting.run_folder import RunRecord, read_run

_FILES = ("config.yaml", "metrics.jsonl")  # a run folder has one of them at least
_MAIN = {
    "train/loss": "Training loss", "eval/loss": "Held-out loss", "train/learning_rate": "Learning rate",
    "train/grad_norm": "Gradient norm", "train/samples_per_second": "Samples per second",
}  # fmt: skip
_MAX_MORE = 24  # further logged values that get a figure


@dataclass(frozen=True)
class ComparedRun:
    """A run, and how the page shows it."""

    name: str
    colour: str  # of `figures.RUNS`
    dashed: bool
    record: RunRecord

    @property
    def css(self) -> str:
        """Its colour in the page."""
        return css_colour(self.colour)


def write_comparison_or_report(config: ReportConfig) -> Path:
    """Write the page that `config` asks for, and give its path.

    Raises:
        UserError: a folder is no run's, or the page can't be written.
    """
    records = [_read(path) for path in config.runs]
    try:
        if len(records) == 1 and config.output is None:
            return write_report(records[0].run_dir)
        return write_page(config.output or Path("comparison.html"), render(records))
    except OSError as error:
        raise UserError(f"output: can't be written: {error}") from None


def render(records: list[RunRecord]) -> str:
    """The page as a string.

    Args:
        records: of the runs, in the order in which they are shown.
    """
    names = short_names([record.run_dir.resolve() for record in records])
    runs = [
        ComparedRun(name, RUNS[number % len(RUNS)], number >= len(RUNS), record)
        for number, (name, record) in enumerate(zip(names, records, strict=True))
    ]
    config, equal = config_table([record.config for record in records])
    tables: dict[str, Table] = {"final": final_table(records), "config": config, "versions": version_table(records)}
    main, more = _curves(runs)
    return page_environment().get_template("comparison.html.j2").render(
        runs=runs,
        cards=[_card(run) for run in runs],
        tables=tables,
        num_equal=equal,
        curves=main,
        more_curves=more,
    )  # fmt: skip


def short_names(folders: list[Path]) -> list[str]:
    """Names that tell the folders apart: the last part, or as many as are needed; equal folders are numbered."""
    for depth in range(1, max(len(folder.parts) for folder in folders) + 1):
        names = ["/".join(folder.parts[-depth:]) for folder in folders]
        if len(set(names)) == len(set(folders)):
            break
    repeated = [name for name in names if names.count(name) > 1]
    return [f"{name} ({number})" if name in repeated else name for number, name in enumerate(names, 1)]


def _read(path: Path) -> RunRecord:
    folder = path.expanduser()
    if not folder.is_dir():
        raise UserError(f"runs: no such run folder: {path}")
    if not any((folder / name).is_file() for name in _FILES) and not any(folder.glob("evaluation/**/*.json")):
        raise UserError(f"runs: {path} is no run folder: it has no {' or '.join(_FILES)}")
    return read_run(folder)


def _card(run: ComparedRun) -> dict[str, Any]:
    notes = [note for note in (summary.progress_note(run.record), *run.record.notes) if note]
    return {"subtitle": summary.subtitle(run.record), "folder": str(run.record.run_dir), "notes": notes}


def _curves(runs: list[ComparedRun]) -> tuple[list[Markup], list[Markup]]:
    """Figures of what readers look for first, and of everything else that was logged."""
    main = [plot for key, title in _MAIN.items() if (plot := _curve(title, key, runs)) is not None]
    keys = list(dict.fromkeys(key for run in runs for key in run.record.history.series))
    rest = [key for key in keys if key not in _MAIN and key.startswith(("train/", "eval/"))]
    more = []
    for key in rest[:_MAX_MORE]:
        place, _, name = key.partition("/")
        title = f"{name.replace('_', ' ')} ({'training' if place == 'train' else 'held out'})"
        plot = _curve(title, key, runs)
        more += [] if plot is None else [plot]
    return main, more


def _curve(title: str, key: str, runs: list[ComparedRun]) -> Markup | None:
    lines = [
        Line(run.name, series, run.colour, "o" if key.startswith("eval/") else "", key == "train/loss", run.dashed)
        for run in runs
        if (series := run.record.history.get(key)) is not None and len(series.finite)
    ]
    rate = key == "train/learning_rate"
    return figures.curve(title, lines, log=False if rate else None, zero=rate, legend=False) if lines else None
