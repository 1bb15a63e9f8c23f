"""The program behind `vla data doctor`: read, examine, draw the contact sheet, print."""

from __future__ import annotations

from pathlib import Path

from vla.conf.inspection import InspectConfig
from vla.data.inspection import numbers, pictures
from vla.data.inspection.raw import read_raw
from vla.data.inspection.sheet import write_sheet
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
    data = read_raw(config.path)
    findings = list(numbers.check(data))
    found, orientation = pictures.check(data, config.episodes)
    findings += found
    name = config.path.resolve().name.removesuffix(".hdf5")
    output = config.output or Path(f"{name}-contact-sheet.png")
    try:
        sheet = write_sheet(data, orientation, output)
    except (OSError, ValueError) as error:
        raise UserError(f"output: can't write {output}: {error}") from None
    detail = f"{sheet}: an episode of each task, {numbers.listed(data.cameras)}"
    findings.append(
        Finding("contact sheet", "ok", detail, "look at it: what no rule finds, people see", pictures.SECTION)
    )
    return findings, sheet
