"""From outcomes to `results.json`, and from there to a table for a terminal and one for a page."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.table import Table

from vla.evaluation.simulator.messages import Outcome
from vla.evaluation.success_rates import SuccessRate, success_rate
from vla.serving.watching.results import summary_lines

FORMAT = 1
RESULTS, SUMMARY = "results.json", "summary.md"


def rate_of(outcomes: Iterable[Outcome]) -> SuccessRate:
    """Success rate of some outcomes."""
    return success_rate((item.status, item.initial_state_hash, item.steps) for item in outcomes)


def make_results(
    outcomes: list[Outcome], tasks: list[dict[str, Any]], details: dict[str, Any], exact: dict[str, bool] | None = None
) -> dict[str, Any]:
    """What `results.json` holds.

    Args:
        outcomes: of all episodes that are to be counted, those of earlier sessions too.
        tasks: of the suite, as `describe_suite` gives them, with the `instruction` that the policy was told.
        details: policy, protocol, versions, audit and so on; kept as they are.
        exact: replays only: by episode key, whether every state was the recorded one to the last bit.
    """
    played = sorted({outcome.episode.task for outcome in outcomes})
    rows = []
    for task in tasks:
        if task["index"] in played:
            rate = rate_of(item for item in outcomes if item.episode.task == task["index"])
            rows.append({**task, **rate.to_dict(), "videos": {}})
    episodes = []
    for item in outcomes:
        name = item.episode
        row = {
            "task": name.task, "init_id": name.init_id, "seed": name.seed, "status": item.status, "steps": item.steps,
            "initial_state": item.initial_state_hash, "states": item.states_hash, "rendered": item.rendered,
            "attempts": item.attempts, "seconds": item.seconds, "message": item.message,
        }  # fmt: skip
        if exact is not None and name.key in exact:
            row["bit_exact"] = exact[name.key]
        episodes.append(row)
    overall = rate_of(outcomes).to_dict()
    if exact is not None:
        overall["bit_exact"] = sum(exact.values())
    date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return {"format": FORMAT, "date": date, **details, "overall": overall, "tasks": rows, "episodes": episodes}


def write_results(folder: Path, results: dict[str, Any]) -> None:
    """Write `results.json` and `summary.md` into `folder`, each in one piece."""
    for name, text in ((RESULTS, json.dumps(results, indent=1) + "\n"), (SUMMARY, to_markdown(results))):
        beside = folder / f".{name}.part"
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, folder / name)


def _cells(row: dict[str, Any]) -> list[str]:
    rate = "-" if row["rate"] is None else f"{row['rate']:.1%}"
    steps = "-" if row["mean_steps"] is None else f"{row['mean_steps']:.0f}"
    return [
        f"{row['successes']}/{row['episodes']}", rate, f"{row['low']:.1%} - {row['high']:.1%}",
        str(row["distinct_initial_states"]), steps, str(row["errors"]),
    ]  # fmt: skip


_COLUMNS = ["successes", "rate", "95 % interval", "states", "steps", "errors"]


_LEGEND = (
    "Intervals are Wilson's. States: distinct initial states. Steps: mean of the successes. Episodes that ended in an "
    "error are in no other column."
)


def to_table(results: dict[str, Any]) -> Table:
    """The table for a terminal."""
    table = Table(title=f"{results['policy']['name']} on {results['suite']}")
    table.add_column("task")
    for column in _COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for row in results["tasks"]:
        table.add_row(f"{row['index']} {row['language']}", *_cells(row))
    table.add_section()
    table.add_row("all", *_cells(results["overall"]), style="bold")
    return table


def to_markdown(results: dict[str, Any]) -> str:
    """The same as a page, with what decides the numbers."""
    protocol, policy = results["protocol"], results["policy"]
    lines = [f"# {policy['name']} on {results['suite']}", ""]
    lines += [f"| task | instruction | {' | '.join(_COLUMNS)} |", "|---|---|" + "---:|" * len(_COLUMNS)]
    for row in results["tasks"]:
        lines.append(f"| {row['index']} | {row['instruction']} | {' | '.join(_cells(row))} |")
    lines.append(f"| **all** | | {' | '.join(_cells(results['overall']))} |")
    lines += ["", _LEGEND, ""]
    if "bit_exact" in results["overall"]:
        count = results["overall"]["bit_exact"]
        lines += [f"{count} replays went through the recorded states to the last bit.", ""]
    if "watching" in results:
        lines += summary_lines(results["watching"])
    lines += ["## Protocol", ""] + [f"- {name}: {value}" for name, value in protocol.items()]
    lines += ["", "## Policy", ""] + [f"- {name}: {value}" for name, value in policy.items()]
    lines += ["", "## Self-audit", ""]
    lines += [f"- {check['name']}: {check['status']}: {check['detail']}" for check in results["audit"]]
    lines += ["", "## Versions", ""] + [f"- {name}: {value}" for name, value in results["versions"].items()]
    return "\n".join(lines) + "\n"
