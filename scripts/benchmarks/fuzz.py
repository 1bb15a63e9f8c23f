"""Files that somebody damaged or forged, against every reader: each must give a value or the documented error.

    python scripts/bench.py fuzz --save                   # 120,000 inputs
    python scripts/bench.py fuzz --inputs 600             # a look
    python scripts/bench.py fuzz --only "['pictures']"    # one reader

Valid files are mutated at random (bits, numbers, brackets, cut, doubled, put together) and read; `_readers.py`,
`_robot_readers.py` and `_weight_readers.py` list what. `crashes` counts every other end than a value or an error for
the user in one line, and inputs that took longer than two minutes or more memory than 2 GiB. Each reader has a
process of its own, so that an input that takes the interpreter along is counted, too; `peak_MB` is the largest memory
of that process, `slowest_s` the longest reading.
"""

import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _robot_readers  # noqa: F401 - for their part of TARGETS
from _forged import ACCEPTED, REFUSED, TARGETS, Target, damage, judge, make_target
from _weight_readers import MARK  # and with it all of TARGETS

MEMORY = 2 * 2**30  # bytes that reading may take, of address space
LONGEST = 120  # seconds that reading may take


def run(inputs: int = 120_000, seed: int = 0, only: Sequence[str] = ()) -> dict[str, Any]:
    """Read mutated files with every reader.

    Args:
        inputs: in all, an equal share for each reader.
        seed: of the mutations.
        only: names of readers; none: all.
    """
    rows = []
    names = list(only) or list(TARGETS)
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            target = make_target(name, Path(folder))
            rows.append({"name": name, **_in_processes(name, target, -(-inputs // len(names)), seed)})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        executed = bool(list(Path(folder).rglob(MARK)))
    crashes = sum(row["crashes"] for row in rows) + executed
    return {"rows": rows, "inputs": sum(row["inputs"] for row in rows), "crashes": crashes, "code_executed": executed}


def _in_processes(name: str, target: Target, inputs: int, seed: int) -> dict[str, Any]:
    """Read in a forked process; one that dies is counted and followed by another."""
    report = Path(target.name).parent / ".report"
    total: dict[str, Any] = {
        "inputs": 0, ACCEPTED: 0, REFUSED: 0, "crashes": 0, "peak_MB": 0, "slowest_s": 0.0, "first_crash": ""
    }  # fmt: skip
    start = time.monotonic()
    while total["inputs"] < inputs:
        report.write_text(json.dumps(total))
        pid = os.fork()
        if not pid:
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # warnings about every file
                _limit_memory()
                _read_many(name, target, total, inputs, seed, report)
            finally:
                os._exit(0)
        _, status = os.waitpid(pid, 0)
        total = json.loads(report.read_text())
        if total["inputs"] < inputs:
            total["crashes"] += 1
            how = f"the process ended with {os.waitstatus_to_exitcode(status)}"
            total["first_crash"] = total["first_crash"] or f"input {total['inputs']}: {how}"
            total["inputs"] += 1
    report.unlink()
    return {**total, "seconds": round(time.monotonic() - start, 1)}


def _limit_memory() -> None:
    """What needs more than `MEMORY` besides what the process has now is told that there is none."""
    pages = Path("/proc/self/statm")
    if pages.is_file():
        taken = int(pages.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, resource.RLIM_INFINITY))


def _read_many(name: str, target: Target, counts: dict[str, Any], inputs: int, seed: int, report: Path) -> None:
    path = Path(target.name)
    while counts["inputs"] < inputs:
        path.write_bytes(damage(target, random.Random(f"{seed} {name} {counts['inputs']}")))
        report.write_text(json.dumps(counts))
        signal.alarm(LONGEST)
        start = time.monotonic()
        found = judge(target, path)
        counts["slowest_s"] = max(counts["slowest_s"], round(time.monotonic() - start, 3))
        signal.alarm(0)
        if found in (ACCEPTED, REFUSED):
            counts[found] += 1
        else:
            counts["crashes"] += 1
            counts["first_crash"] = counts["first_crash"] or f"input {counts['inputs']}: {found}"
        counts["inputs"] += 1
        counts["peak_MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (
            2**20 if sys.platform == "darwin" else 2**10
        )
    report.write_text(json.dumps(counts))
