"""The program behind `vla data doctor`: read, examine, draw the contact sheet, print."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vla.conf.inspection import InspectConfig
from vla.data.inspection import numbers, pictures
from vla.data.inspection.counts import listed
from vla.data.inspection.raw import RawData, read_raw
from vla.data.inspection.robot import read_robot, robot_layout
from vla.data.inspection.sheet import first_of_tasks, write_sheet
from vla.errors import UserError
from vla.overwatch.findings import Finding, as_json, counts, print_findings

BROKEN = 1  # exit code


def inspect(config: InspectConfig) -> int:
    """Examine the data of `config` and print what was found; returns 1 if something can't be used, else 0.

    Raises:
        UserError: there is no data, or the contact sheet can't be written.
    """
    findings, sheet = examine(config)
    if config.json:
        print(as_json(findings, path=str(config.path), contact_sheet=str(sheet)))
    else:
        print_findings(findings)
    return BROKEN if counts(findings)["broken"] else 0


def examine(config: InspectConfig) -> tuple[list[Finding], Path]:
    """All findings, and where the contact sheet is; see `inspect`."""
    assert config.path is not None  # the configuration checks it
    data = _read(config)
    findings = list(numbers.check(data))
    found, orientation = pictures.check(data, config.episodes)
    findings += found
    name = config.path.resolve().name.removesuffix(".hdf5")
    output = config.output or Path(f"{name}-contact-sheet.png")
    try:
        broken = pictures.unreadable(first_of_tasks(data))
        whole = replace(data, episodes=[episode for episode in data.episodes if episode not in broken])
        sheet = write_sheet(whole, orientation, output)
    except (OSError, ValueError) as error:
        raise UserError(f"output: can't write {output}: {error}") from None
    detail = f"{sheet}: an episode of each task, {listed(data.cameras)}"
    findings.append(
        Finding("contact sheet", "ok", detail, "look at it: what no rule finds, people see", pictures.SECTION)
    )
    return findings, sheet


def _read(config: InspectConfig) -> RawData:
    assert config.path is not None
    layout = robot_layout(config.path.expanduser())
    return read_raw(config.path) if layout is None else read_robot(layout, config)
