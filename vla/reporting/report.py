"""`write_report`: from the files of a run folder to report.html."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vla.reporting import figures, summary
from vla.reporting.anomaly import read_anomaly
from vla.reporting.closed_loop import read_sections
from vla.reporting.figures import FIRST, SECOND, Line
from vla.reporting.history import History
from vla.reporting.pictures import data_uri
from vla.reporting.run_folder import Episode, RunRecord, read_run

_TEMPLATES = Path(__file__).parent / "templates"
_MAX_FRAMES = 6  # moments of the episode that are shown
_MAX_EXTRA = 24  # further logged values that get a figure
_LATE = ("questions/", "lmms_eval/")  # of checkpoints that were evaluated in the background
_SHOWN = {
    "loss", "learning_rate", "grad_norm", "samples_per_second", "data_wait", "step_time", "time", "save_time",
    "memory_gib", "mfu",
}  # fmt: skip


def write_report(run_dir: Path) -> Path:
    """Write `run_dir`/report.html from the files of the run folder, and give its path.

    The page needs no other file and no network. What is missing is said on the page.

    Raises:
        FileNotFoundError: `run_dir` is no folder.
    """
    record = read_run(Path(run_dir))
    return write_page(record.run_dir / "report.html", render(record))


def write_page(path: Path, text: str) -> Path:
    """Write a page, making its folder, so that a reader never sees half of it; gives the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".html.part")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
    return path


def page_environment() -> Environment:
    """Where templates come from; values are escaped, and a name that is not given is an error."""
    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.filters.update(count=summary.count, figure=summary.figure)
    return environment


def render(record: RunRecord) -> str:
    """The page as a string."""
    closed_loop, unreadable = read_sections(record.run_dir)
    return (
        page_environment()
        .get_template("report.html.j2")
        .render(
            run_id=record.run_dir.resolve().name,
            subtitle=summary.subtitle(record),
            notes=[note for note in (summary.progress_note(record), *record.notes, *unreadable) if note],
            closed_loop=closed_loop,
            anomaly=read_anomaly(record.run_dir, record.evaluation),
            headline=summary.headline(record),
            curves=_curves(record.history),
            extra_curves=_extra_curves(record.history),
            timings=summary.timings(record),
            parameters=record.parameters,
            evaluation=record.evaluation,
            evaluation_facts=summary.evaluation_facts(record),
            dimensions=_dimensions(record.evaluation),
            episode=_episode(record.episode),
            config_text=record.config_text,
            environment=summary.flatten(record.environment),
        )
    )


def _curves(history: History) -> list[Markup]:
    plots: list[Markup] = []
    lines = []
    if train := history.get("train/loss"):
        lines.append(Line("training", train, FIRST, smoothing=True))
    if held_out := history.get("eval/loss"):
        lines.append(Line("held out", held_out, SECOND, marker="o"))
    if lines:
        plots.append(figures.curve("Loss", lines))
    rates = {name: series for name, series in history.with_prefix("train/learning_rate").items() if len(series)}
    if rates:
        fastest = max(rates, key=lambda name: rates[name].finite.values.max(initial=0.0))
        plots.append(figures.curve("Learning rate", [Line("learning rate", rates[fastest])], log=False, zero=True))
    if norm := history.get("train/grad_norm"):
        plots.append(figures.curve("Gradient norm", [Line("gradient norm", norm, smoothing=True)]))
    if rate := history.get("train/samples_per_second"):
        plots.append(
            figures.curve("Throughput", [Line("throughput", rate)], unit="samples per second", log=False, zero=True)
        )
    if tokens := history.get("training_stats/avg_tokens_per_second"):
        plots.append(figures.curve("Tokens", [Line("tokens", tokens)], unit="tokens per second", log=False, zero=True))
    shares = (
        ("train/data_wait", "Waiting for data", "% of the step"),
        ("train/mfu", "Model FLOPs utilisation", "% of the peak"),
    )
    for key, title, unit in shares:
        if share := history.get(key):
            percent = type(share)(share.steps, share.values * 100)
            plots.append(figures.curve(title, [Line(title.lower(), percent)], unit=unit, log=False, zero=True))
    if memory := history.get("train/memory_gib"):
        plots.append(figures.curve("Memory", [Line("memory", memory)], unit="GiB", log=False, zero=True))
    return plots


def _extra_curves(history: History) -> list[Markup]:
    """Everything else that was logged: the same name under train/ and eval/ shares a figure.

    What evaluations in the background found has one of its own, in the order of steps, not of arrival.
    """
    train, held_out = history.with_prefix("train/"), history.with_prefix("eval/")
    names = [name for name in dict.fromkeys((*train, *held_out)) if not name.startswith(tuple(_SHOWN))]
    plots = []
    for name in names[:_MAX_EXTRA]:
        lines = [Line("training", train[name], FIRST, smoothing=True)] if name in train else []
        lines += [Line("held out", held_out[name], SECOND, marker="o")] if name in held_out else []
        plots.append(figures.curve(name.replace("_", " "), lines, log=False))
    late = {prefix + name: series for prefix in _LATE for name, series in history.with_prefix(prefix).items()}
    for name, series in list(late.items())[:_MAX_EXTRA]:
        line = Line("evaluated", series.by_step, SECOND, marker="o")
        plots.append(figures.curve(name.replace("_", " "), [line], log=False))
    return plots


def _dimensions(evaluation: dict) -> list[dict]:
    rows = evaluation.get("dimensions", [])
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _episode(episode: Episode | None) -> dict[str, Any] | None:
    if episode is None:
        return None
    plots = [
        figures.actions(name, unit, episode.demonstrated[:, i], episode.predicted[:, i])
        for i, (name, unit) in enumerate(zip(episode.names, episode.units, strict=False))
    ]
    return {
        "instruction": episode.instruction,
        "label": episode.label,
        "length": len(episode.demonstrated),
        "plots": plots,
        "strips": _strips(episode),
    }


def _strips(episode: Episode) -> list[dict[str, Any]]:
    """One row of pictures per camera."""
    frames = episode.frames
    if frames is None or frames.ndim != 5 or not len(frames):
        return []
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(_MAX_FRAMES, len(frames))).round().astype(int))
    steps = episode.frame_steps if len(episode.frame_steps) == len(frames) else list(range(len(frames)))
    strips = []
    for camera in range(frames.shape[1]):
        name = episode.cameras[camera] if camera < len(episode.cameras) else f"camera {camera}"
        pictures = [{"step": steps[i], "uri": data_uri(frames[i, camera])} for i in chosen]
        strips.append({"camera": name, "pictures": pictures})
    return strips
