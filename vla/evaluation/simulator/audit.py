"""The self-audit: what has to hold before a success rate means anything.

These are the checks of the simulator; that training and evaluation prepare images alike is checked where both are
known (`vla.serving.preprocessing_check`).
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vla.evaluation.simulator.demonstrations import check_replay
from vla.evaluation.simulator.golden import Check, check_golden_frame, check_published_observation
from vla.evaluation.simulator.protocol import contract_differences
from vla.evaluation.simulator.runtime import (
    PACKAGE_VERSIONS,
    check_versions,
    list_tasks,
    load_libero,
    official_initial_states,
    other_versions,
)

VERSIONS, GOLDEN, PUBLISHED, REPLAY = "versions", "golden-frame", "published-observation", "replay"
CONTRACT, PREPROCESSING = "contract", "preprocessing"
FORCED = "failed, forced"
CHECKS = (VERSIONS, GOLDEN, PUBLISHED, REPLAY, CONTRACT, PREPROCESSING)


def audit_simulator(suite: str, demonstrations: Path | None = None, skip: tuple[str, ...] = ()) -> list[Check]:
    """Check versions, renderer and replay; to be called in a simulator process.

    Args:
        suite: the simulator's name of it.
        demonstrations: folder of recorded demonstrations, if there is one; see `check_replay`.
        skip: names of checks not to run.

    Raises:
        SimulatorUnavailableError: a version is known to change results, or something is missing; see `check_versions`.
    """
    found = check_versions()
    checks = [_check_versions(found)]
    if GOLDEN not in skip:
        checks.append(check_golden_frame(suite))
    if PUBLISHED not in skip and suite == "libero_spatial":
        checks.append(check_published_observation())
    if REPLAY not in skip:
        checks.append(check_replay(suite, demonstrations))
    return checks


def _check_versions(found: Mapping[str, str]) -> Check:
    """Of versions that `check_versions` let through: others than those that were checked only pass when forced."""
    others = other_versions(found)
    detail = ", ".join(f"{name} {version}" for name, version in found.items())
    if not others:
        return Check(VERSIONS, "passed", detail)
    needed = ", ".join(f"{name} {PACKAGE_VERSIONS[name]}" for name in others)
    return Check(VERSIONS, FORCED, f"{detail}; checked were {needed}")


def check_contract(contract: Mapping[str, Any], override: Sequence[str] = ()) -> Check:
    """Compare a checkpoint's contract with what the simulator takes and gives.

    Args:
        contract: `Processor.contract()`.
        override: names of fields that may differ.
    """
    differences = contract_differences(contract)
    named = [line for line in differences if line.partition(":")[0] in override]
    left = [line for line in differences if line not in named]
    if left:
        fields = ",".join(line.partition(":")[0] for line in left)
        return Check(CONTRACT, "failed", "; ".join(left) + f" (--override_contract {fields} lets them differ)")
    if named:
        return Check(CONTRACT, "overridden", "; ".join(named))
    config = contract["config"]
    seen = f"cameras {', '.join(config['cameras'])}, {config['num_frames']} frames, {config['orientation']}"
    return Check(CONTRACT, "passed", f"actions, robot state and pictures mean the same on both sides ({seen})")


def describe_suite(suite: str) -> dict[str, Any]:
    """Tasks of a suite, and what the simulator is; to be called in a simulator process."""
    versions = check_versions()
    load_libero()
    tasks = [
        {
            "index": task.index, "name": task.name, "language": task.language,
            "initial_states": len(official_initial_states(task)), "horizon": task.horizon,
        }
        for task in list_tasks(suite)
    ]  # fmt: skip
    versions |= {"numpy": np.__version__, "python": platform.python_version()}
    return {"tasks": tasks, "versions": versions, "gl_backend": os.environ.get("MUJOCO_GL", "")}
