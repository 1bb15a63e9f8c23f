"""The LIBERO simulator: its versions, its import, and a picture drawn in a process of its own, since drivers crash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

from vla.evaluation.simulator.runtime import (
    PACKAGE_VERSIONS,
    SimulatorUnavailableError,
    check_versions,
    choose_gl_backend,
)
from vla.overwatch.findings import Finding

SECTION = "Simulator"
_SECONDS = 60.0  # for drawing
_INSTALL = "pip install '.[libero]' (closed-loop evaluation and recording need it, training doesn't)"
# Draws a small scene without robosuite: the seconds of a picture, and how many different colours it has.
_DRAW = """
import json, time
import mujoco
import numpy as np
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><light pos='0 0 3'/><geom type='plane' size='1 1 .1' rgba='.2 .4 .6 1'/>"
    "<geom type='box' size='.2 .2 .2' pos='0 0 .2' rgba='.9 .2 .1 1'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 128, 128) as renderer:
    renderer.update_scene(data)
    renderer.render()
    start = time.perf_counter()
    picture = renderer.render()
    seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "colours": len(np.unique(picture.reshape(-1, 3), axis=0))}))
"""


def check() -> Iterator[Finding]:
    """Versions, and a picture."""
    try:
        versions = check_versions()
    except SimulatorUnavailableError as error:
        missing = "is not installed" in str(error)
        status, detail = ("note", "not installed") if missing else ("warning", str(error).partition(";")[0])
        advice = _INSTALL if missing else "pip install '.[libero]' brings the versions that were checked"
        yield Finding("simulator", status, detail, advice, SECTION)
        return
    yield Finding(
        "simulator", "ok", ", ".join(f"{name} {versions[name]}" for name in PACKAGE_VERSIONS), section=SECTION
    )
    try:
        backend = choose_gl_backend()
    except SimulatorUnavailableError as error:
        detail, _, advice = str(error).partition(": ")
        yield Finding("renderer", "warning", detail, advice, SECTION)
        return
    yield _draw(backend)


def _draw(backend: str) -> Finding:
    advice = "try MUJOCO_GL=osmesa, or install libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri libglib2.0-0"
    environment = {**os.environ, "MUJOCO_GL": backend}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _DRAW], capture_output=True, text=True, timeout=_SECONDS, env=environment
        )
    except subprocess.TimeoutExpired:
        return Finding("renderer", "warning", f"{backend}: no picture within {_SECONDS:.0f} s", advice, SECTION)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"the process ended with {done.returncode}"
        return Finding("renderer", "warning", f"{backend}: {reason}", advice, SECTION)
    found = json.loads(done.stdout.splitlines()[-1])
    if found["colours"] < 3:
        return Finding("renderer", "warning", f"{backend}: the picture is empty", advice, SECTION)
    milliseconds = found["seconds"] * 1000
    detail = f"{backend} draws 128 x 128 in {milliseconds:.1f} ms"
    return Finding("renderer", "ok", detail, section=SECTION)
