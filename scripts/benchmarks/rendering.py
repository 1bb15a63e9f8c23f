"""Rendering LIBERO: frames without the meshes that their camera cannot see, beside frames of everything.

    python scripts/bench.py rendering --suite libero_spatial
    python scripts/bench.py rendering --suite libero_object --task 3 --image_size 256 --poses 20

Both draw the same states of one task in one process, in turns: the objects as at a random start, the arm's joints
spread around theirs. The time is the processor's, with the software renderer's threads, which other work on the machine
disturbs less than the clock's; a figure is the median over the poses. `faces drawn` is the share of the visible meshes'
triangles. Stops if the two pictures of a pose differ in a bit. Needs the libero extra.
"""

import os
import time
from contextlib import nullcontext
from typing import Any

import numpy as np

from vla.evaluation.simulator.libero_env import CAMERAS, LiberoEnv
from vla.evaluation.simulator.runtime import list_tasks

SPREAD = 0.15  # radians, standard deviation of the seven joints


def run(suite: str = "libero_object", task: int = 0, image_size: int = 128, poses: int = 15) -> dict[str, Any]:
    """Measure both cameras with and without culling.

    Args:
        suite: the simulator's name.
        task: index in the suite.
        image_size: height and width in pixels.
        poses: of the arm.
    """
    env = LiberoEnv(list_tasks(suite)[task], image_size)
    try:
        env.reset_to(None, seed=0, render=False)
        cameras = {camera: measure(env, camera, poses) for camera in CAMERAS}
    finally:
        env.close()
    rows = []
    for name, column in (("everything", 0), ("what the camera can see", 1)):
        milliseconds = {camera: float(np.median(times[:, column])) * 1e3 for camera, (times, _) in cameras.items()}
        share = {f"faces drawn, {camera}": drawn if column else 1.0 for camera, (_, drawn) in cameras.items()}
        each = {f"ms per frame, {camera}": value for camera, value in milliseconds.items()}
        rows.append({"name": name, "ms_per_step": sum(milliseconds.values()), **each, **share})
    return {
        "rows": rows, "baseline": rows[0]["name"], "measure": "ms_per_step", "suite": suite, "task": task,
        "image size": image_size, "poses": poses, "load average": round(os.getloadavg()[0], 2),
    }  # fmt: skip


def measure(env: LiberoEnv, camera: str, poses: int) -> tuple[np.ndarray, float]:
    """Seconds [poses, 2] of the processor without and with culling, and the mean share of the faces that is drawn."""
    model, generator = env.sim.model._model, np.random.default_rng(0)
    meshes = np.where(model.geom_dataid >= 0, model.geom_dataid, 0)
    faces = np.where(model.geom_dataid >= 0, model.mesh_facenum[meshes], 0) * (model.geom_group == 1)  # 1: visible
    start, times, drawn = env.sim.data.qpos.copy(), np.zeros((poses, 2)), np.zeros(poses)
    for pose in range(poses):
        env.sim.data.qpos[:7] = start[:7] + generator.normal(0.0, SPREAD, size=7)
        env.sim.forward()
        frames = {}
        for cull in (False, True) if pose % 2 else (True, False):
            begin = time.process_time()
            with env.culled(camera) if cull else nullcontext():
                frames[cull] = env.sim.render(camera_name=camera, width=env.image_size, height=env.image_size)
                if cull:
                    drawn[pose] = faces[model.geom_group == 1].sum() / faces.sum()
            times[pose, int(cull)] = time.process_time() - begin
        if not np.array_equal(frames[False], frames[True]):
            raise RuntimeError(f"culling changed the picture of {camera} in pose {pose}")
    env.sim.data.qpos[:] = start
    env.sim.forward()
    return times, float(drawn.mean())
