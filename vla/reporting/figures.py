"""Figures of the report: inline SVG whose colours are CSS variables, so that they follow the reader's colour scheme."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vla.reporting.history import Series, downsample, smooth

# Each colour stands for a CSS variable of the template: matplotlib draws with the left, the page shows the right.
_COLOURS = {
    "#0a0b01": "var(--ink)",
    "#0a0b02": "var(--muted)",
    "#0a0b03": "var(--grid)",
    "#0a0b04": "var(--first)",
    "#0a0b05": "var(--second)",
    "#0a0b06": "var(--third)",
    "#0a0b07": "var(--fourth)",
    "#0a0b08": "var(--fifth)",
    "#0a0b09": "var(--sixth)",
}
_INK, _MUTED, _GRID, FIRST, SECOND, *_MORE = _COLOURS
RUNS = (FIRST, SECOND, *_MORE)  # one for each run of a comparison


def css_colour(colour: str) -> str:
    """The CSS that the page shows for a colour of this module."""
    return _COLOURS[colour]


_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: small, sharp, and in the page's font
    "font.size": 10,
    "text.parse_math": False,  # a "$" in a name is a "$"
    "text.color": _INK,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.formatter.useoffset": False,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.6,
}


@dataclass(frozen=True)
class Line:
    """One line of a figure. With `smoothing` the raw values stay visible, faintly, behind their average."""

    label: str
    series: Series
    colour: str = FIRST
    marker: str = ""
    smoothing: bool = False
    dashed: bool = False


@contextmanager
def _axes(title: str, size: tuple[float, float] = (4.6, 2.7)) -> Iterator[tuple[Figure, Axes]]:
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(title)
        axes.tick_params(length=0)
        axes.set_axisbelow(True)
        yield figure, axes


def _to_svg(figure: Figure, description: str) -> Markup:
    """Inline SVG with CSS colours and a description for screen readers; ids are unique to the figure."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"#([\w-]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", svg)
    svg = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'role="img"', svg, count=1)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)  # the family is the page's
    for drawn, shown in _COLOURS.items():
        svg = svg.replace(drawn, shown)
    return Markup(re.sub(r">", Markup("><title>{}</title>").format(description), svg, count=1))


def _save(figure: Figure, description: str) -> Markup:
    with matplotlib.rc_context({"svg.hashsalt": description, "svg.fonttype": "none"}):
        return _to_svg(figure, description)


def _plot(axes: Axes, line: Line) -> None:
    series = downsample(line.series.finite)
    width = max(len(line.series) // 25, 1) if line.smoothing else 1
    if width > 1:
        axes.plot(series.steps, series.values, color=line.colour, linewidth=0.8, alpha=0.35)
        series = downsample(smooth(line.series.finite, width))
    marker = line.marker or ("o" if len(series) == 1 else "")
    axes.plot(
        series.steps, series.values, color=line.colour, label=line.label, marker=marker, markersize=4.5,
        linestyle="--" if line.dashed else "-",
    )  # fmt: skip


def _wants_log(lines: list[Line]) -> bool:
    values = np.concatenate([line.series.finite.values for line in lines])
    return bool(len(values) and values.min() > 0 and values.max() > 50 * values.min())


def curve(
    title: str, lines: list[Line], *, unit: str = "", log: bool | None = None, zero: bool = False, legend: bool = True
) -> Markup:
    """Lines over optimizer steps. `log`: a logarithmic axis (none: when the values span much); `zero`: start at 0."""
    with _axes(title) as (figure, axes):
        for line in lines:
            _plot(axes, line)
        if _wants_log(lines) if log is None else log:
            axes.set_yscale("log")
        elif zero:
            axes.set_ylim(bottom=0)
        axes.set_xlabel("optimizer step")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_ylabel(unit)
        if legend and len(lines) > 1:
            axes.legend(loc="best")
        last = ", ".join(f"{line.label} {line.series.last:.4g}" for line in lines if line.series.last is not None)
        return _save(figure, f"{title} over optimizer steps. Last values: {last or 'none'}.")


def actions(name: str, unit: str, demonstrated: np.ndarray, predicted: np.ndarray) -> Markup:
    """One action dimension over an episode: demonstrated as a wide line, predicted as a thin one on top."""
    title = f"{name} ({unit})" if unit else name
    steps = np.arange(len(demonstrated), dtype=float)
    limit = 3000  # points of a line; longer episodes are thinned
    stride = max(len(steps) // limit, 1)
    with _axes(title, (4.6, 2.2)) as (figure, axes):
        style = "steps-post" if set(np.unique(demonstrated)) <= {-1.0, 0.0, 1.0} else "default"  # a switch, not a curve
        axes.plot(
            steps[::stride], demonstrated[::stride], color=FIRST, linewidth=3.2, alpha=0.55, drawstyle=style,
            label="demonstrated", solid_joinstyle="round",
        )  # fmt: skip
        axes.plot(steps[::stride], predicted[::stride], color=SECOND, linewidth=1.4, label="predicted", drawstyle=style)
        axes.set_xlabel("control step")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        error = np.abs(demonstrated - predicted)
        mean_error = f"{np.nanmean(error):.3g}" if np.isfinite(error).any() else "not finite"
        return _save(figure, f"{title}: demonstrated and predicted over the episode, mean error {mean_error} {unit}.")
