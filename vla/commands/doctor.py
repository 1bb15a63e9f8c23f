"""`vla doctor`: what works on this machine, and what to do about the rest (scripts/doctor.py)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from vla.commands.program import Action
from vla.conf.doctor import DoctorConfig
from vla.overwatch import limit_busy_waiting

if TYPE_CHECKING:
    from vla.overwatch.findings import Finding

BROKEN = 1  # exit code


def doctor(config: DoctorConfig) -> int:
    """Examine the machine and print what was found; returns 1 if something needed is broken, else 0."""
    limit_busy_waiting()
    import vla
    from vla.overwatch.findings import as_json, counts, print_findings

    findings = examine(config)
    if config.json:
        print(as_json(findings, vla=vla.__version__))
    else:
        print_findings(findings)
    return BROKEN if counts(findings)["broken"] else 0


def examine(config: DoctorConfig) -> list[Finding]:
    """All findings. A check that fails itself is one of them, and stops no other."""
    findings: list[Finding] = []
    for name, check in _checks(config):
        if sys.stderr.isatty():
            print(f"\r\x1b[Klooking at {name} ...", end="", file=sys.stderr, flush=True)
        findings += _attempt(name, check)
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    return findings


def _checks(config: DoctorConfig) -> Iterator[tuple[str, Callable[[], Iterator[Finding]]]]:
    """Names and functions; each is imported only when it runs, since torch may be what is broken."""

    def software() -> Iterator[Finding]:
        from vla.diagnosis import software

        return software.check()

    def hardware() -> Iterator[Finding]:
        from vla.diagnosis import hardware

        return hardware.check()

    def attention() -> Iterator[Finding]:
        from vla.diagnosis import attention

        return attention.check()

    def storage() -> Iterator[Finding]:
        from vla.diagnosis import storage

        return storage.check(config.folder)

    def hub() -> Iterator[Finding]:
        from vla.diagnosis import hub

        return hub.check(config.timeout)

    def simulator() -> Iterator[Finding]:
        from vla.diagnosis import simulator

        return simulator.check()

    yield "packages", software
    yield "hardware", hardware
    yield "attention", attention
    yield "storage", storage
    if config.network:
        yield "hub", hub
    yield "simulator", simulator


def _attempt(name: str, check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    from vla.overwatch.findings import Finding

    found: list[Finding] = []
    try:
        for finding in check():
            found.append(finding)
    except Exception as error:  # a package that is missing or broken is named by the first check
        reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
        section = found[-1].section if found else name.capitalize()
        found.append(Finding(name, "warning", f"could not be examined further ({reason})", "", section))
    return found


PROGRAM = Action(DoctorConfig, doctor)
