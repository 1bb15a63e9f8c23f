"""One simulated task for all tests that need the simulator; they are skipped where it is not installed."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def soup_env():
    """Task 0 of libero_object with both cameras at 128 pixels."""
    pytest.importorskip("mujoco", reason="the libero extra is not installed")
    pytest.importorskip("robosuite", reason="the libero extra is not installed")
    from vla.evaluation.simulator.libero_env import LiberoEnv
    from vla.evaluation.simulator.runtime import list_tasks

    env = LiberoEnv(list_tasks("libero_object")[0], image_size=128)
    yield env
    env.close()
