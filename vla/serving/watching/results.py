"""What an evaluation says about its watcher: a dictionary for results.json, and its table for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table

from vla.evaluation.detection import Watched, detection, false_alarms
from vla.evaluation.simulator.messages import Outcome
from vla.evaluation.simulator.playing import STOPPED
from vla.evaluation.success_rates import success_rate
from vla.serving.watching.watched import Round, WatchedPolicy, watched_by_key

COLUMNS = (
    "success", "episodes", "frame AUROC", "episode AUROC", "delay, steps", "not noticed", "alarm before", "stopped",
)  # fmt: skip
LEGEND = (
    "Episodes: in which the fault came about. AUROC: against the same episodes without a fault, from the same step on. "
    "Delay: median, from the fault's first frame to the first alarm. Not noticed: no alarm since. Before: an alarm "
    "before the fault. Of the rows, the first is without a fault."
)


def watching_results(watched: WatchedPolicy, rounds: Sequence[Round]) -> dict[str, Any]:
    """What results.json holds under `watching`.

    Args:
        watched: who watched whom.
        rounds: the first without a fault.
    """
    watcher, threshold = watched.watcher, watched.threshold
    about_threshold = {name: value for name, value in asdict(threshold).items() if name != "usual"}
    plain = rounds[0].outcomes
    normal = watched_by_key(plain)
    good = watched_by_key([item for item in plain if item.status == "success"])
    alarms = {
        "all": asdict(false_alarms(list(normal.values()), threshold.value)),
        "successes": asdict(false_alarms(list(good.values()), threshold.value)),
    }
    return {
        "watcher": {"name": watcher.name, "fingerprint": watcher.fingerprint, "threshold": about_threshold},
        "action": watched.action,
        "normal": {**_success(plain), "false_alarms": alarms, "episodes": _rows(plain, threshold.value), "picture": ""},
        "faults": [_fault(item, normal, threshold.value) for item in rounds[1:]],
    }


def _fault(item: Round, normal: dict[str, Watched], threshold: float) -> dict[str, Any]:
    assert item.fault is not None
    found = detection(watched_by_key(item.outcomes), normal, threshold)
    return {
        "fault": item.fault.key, "name": item.fault.name, "strength": item.fault.strength,
        "onset": list(item.fault.onset), **_success(item.outcomes), "detection": asdict(found),
        "episodes": _rows(item.outcomes, threshold), "picture": "",
    }  # fmt: skip


def _success(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    rate = success_rate((item.status, item.initial_state_hash, item.steps) for item in outcomes)
    return {"success": rate.to_dict(), "stopped": sum(item.message == STOPPED for item in outcomes)}


def _rows(outcomes: Sequence[Outcome], threshold: float) -> list[dict[str, Any]]:
    """Of every episode where the fault began, and the first alarm; its scores are in episodes.jsonl."""
    return [
        {
            "task": item.episode.task, "init_id": item.episode.init_id, "seed": item.episode.seed,
            "status": item.status, "steps": item.steps, "onset": item.onset,
            "first_alarm": next((step for step, score in item.watched if score > threshold), None),
            "highest_score": max((score for _, score in item.watched), default=None),
        }
        for item in outcomes
    ]  # fmt: skip


def table_rows(watching: dict[str, Any]) -> list[list[str]]:
    """A row of `COLUMNS`, after its name, for the normal episodes and for each fault."""
    normal = watching["normal"]
    rows = [["nothing", _rate(normal), "", "", "", "", "", "", str(normal["stopped"])]]
    for item in watching["faults"]:
        found = item["detection"]
        rows.append([
            item["fault"], _rate(item), str(found["episodes"]), _number(found["frame_auroc"]),
            _number(found["episode_auroc"]), _number(found["median_delay"], "g"), _percent(found["missed_share"]),
            _percent(found["early_share"]), str(item["stopped"]),
        ])  # fmt: skip
    return rows


def to_table(watching: dict[str, Any]) -> Table:
    """The most important of it for a terminal of 80 columns."""
    layout: dict[str, Any] = {"box": box.SIMPLE, "padding": (0, 1, 0, 0)}
    table = Table(title=about(watching), caption="\n".join(false_alarm_lines(watching)), **layout)
    table.add_column("fault", no_wrap=True)
    shown = [number for number, name in enumerate(COLUMNS) if name not in ("episodes", "stopped")]
    for number in shown:
        table.add_column(COLUMNS[number], justify="right")
    for name, *cells in table_rows(watching):
        table.add_row(name, *(cells[number] for number in shown))
    return table


def summary_lines(watching: dict[str, Any]) -> list[str]:
    """The same in Markdown, with what the threshold promised and what came of it."""
    lines = ["## Watched", "", about(watching), "", *false_alarm_lines(watching), ""]
    lines += [f"| fault | {' | '.join(COLUMNS)} |", "|---|" + "---:|" * len(COLUMNS)]
    lines += [f"| {' | '.join(row)} |" for row in table_rows(watching)]
    return [*lines, "", LEGEND, ""]


def about(watching: dict[str, Any]) -> str:
    """A sentence on the watcher."""
    threshold = watching["watcher"]["threshold"]
    return (
        f"{watching['watcher']['name']} ({watching['action']}), threshold {threshold['value']:.6g}: at most "
        f"{threshold['false_alarm_rate']:.1%} false alarms per {threshold['per']}, from {threshold['episodes']} "
        "normal episodes that were held out."
    )


def false_alarm_lines(watching: dict[str, Any]) -> list[str]:
    """A sentence on the false alarms of all episodes, and one on those of the successes."""
    names = {"all": "all episodes without a fault", "successes": "those of them that succeeded"}
    return [
        f"- {names[kind]}: alarms in {_percent(found['episode_share'])} of {found['episodes']} episodes and in "
        f"{_percent(found['frame_share'])} of {found['frames']} frames"
        for kind, found in watching["normal"]["false_alarms"].items()
    ]


def _rate(row: dict[str, Any]) -> str:
    return f"{row['success']['successes']}/{row['success']['episodes']}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _number(value: float | None, form: str = ".3f") -> str:
    return "–" if value is None else format(value, form)
