"""Finding the simulator: messages are one line and name the remedy; none of this needs the simulator."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from vla.evaluation.simulator import runtime
from vla.evaluation.simulator.guards import SimulatorHangError, time_limit
from vla.evaluation.simulator.libero_env import quat_to_axis_angle, upright

ROOT = Path(__file__).resolve().parents[3]


def installed(monkeypatch, **changes):
    """Pretend that the right versions are installed, but for `changes`."""
    versions = {**runtime.PACKAGE_VERSIONS, **changes}

    def version(package):
        if versions[package] is None:
            raise metadata.PackageNotFoundError(package)
        return versions[package]

    monkeypatch.setattr(runtime.metadata, "version", version)
    monkeypatch.delenv(runtime.ALLOW_VERSIONS_VARIABLE, raising=False)


def test_right_versions_pass(monkeypatch):
    installed(monkeypatch)
    assert runtime.check_versions() == runtime.PACKAGE_VERSIONS


def test_missing_simulator_names_the_extra(monkeypatch):
    installed(monkeypatch, mujoco=None)
    with pytest.raises(runtime.SimulatorUnavailableError, match=r"^mujoco==3\.2\.3 is not installed; .*\.\[libero\]"):
        runtime.check_versions()


def test_listing_tasks_without_the_simulator_says_so(monkeypatch):
    installed(monkeypatch, robosuite=None)
    runtime.load_libero.cache_clear()
    runtime._suite.cache_clear()
    with pytest.raises(runtime.SimulatorUnavailableError, match=r"robosuite==1\.4\.0 is not installed"):
        runtime.list_tasks("libero_object")


def test_wrong_mujoco_is_refused_unless_forced(monkeypatch):
    installed(monkeypatch, mujoco="3.17.0")
    with pytest.raises(runtime.SimulatorUnavailableError, match=r"mujoco 3\.17\.0 .* need mujoco==3\.2\.3") as caught:
        runtime.check_versions()
    assert "\n" not in str(caught.value)
    assert runtime.check_versions(force=True)["mujoco"] == "3.17.0"
    monkeypatch.setenv(runtime.ALLOW_VERSIONS_VARIABLE, "1")
    assert runtime.check_versions()["mujoco"] == "3.17.0"


@pytest.mark.parametrize(("present", "chosen"), [({"EGL", "OSMesa"}, "egl"), ({"OSMesa"}, "osmesa")])
def test_gl_backend_is_one_that_is_there(monkeypatch, present, chosen):
    monkeypatch.setenv("MUJOCO_GL", "")
    monkeypatch.setattr(runtime.ctypes.util, "find_library", lambda name: name if name in present else None)
    assert runtime.choose_gl_backend() == chosen


def test_no_gl_backend_names_the_packages(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "")
    monkeypatch.setattr(runtime.ctypes.util, "find_library", lambda name: None)
    with pytest.raises(runtime.SimulatorUnavailableError, match="libegl1"):
        runtime.choose_gl_backend()


def test_users_gl_backend_is_kept(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert runtime.choose_gl_backend() == "osmesa"


def test_time_limit_interrupts():
    with pytest.raises(SimulatorHangError, match="within 0.05 s"), time_limit(0.05):
        while True:
            pass


def test_axis_angle_of_quaternions():
    np.testing.assert_allclose(quat_to_axis_angle(np.array([0.0, 0.0, 0.0, 1.0])), np.zeros(3))
    np.testing.assert_allclose(quat_to_axis_angle(np.array([1.0, 0.0, 0.0, 0.0])), [np.pi, 0.0, 0.0])
    half = np.array([0.0, 0.0, np.sin(0.25), np.cos(0.25)])
    before = half.copy()
    np.testing.assert_allclose(quat_to_axis_angle(half), [0.0, 0.0, 0.5])
    assert np.array_equal(half, before)


def test_axis_angle_does_not_jump_where_the_hand_points_down():
    """Half a turn is the usual pose; the published state goes on past it instead of turning to the other sign."""
    angles = np.linspace(np.pi - 0.1, np.pi + 0.1, 5)
    vectors = [quat_to_axis_angle(np.array([np.sin(angle / 2), 0.0, 0.0, np.cos(angle / 2)])) for angle in angles]
    np.testing.assert_allclose(vectors, np.array([1.0, 0.0, 0.0]) * angles[:, None])


def test_upright_flips_rows_only():
    image = np.arange(12).reshape(2, 2, 3)
    assert np.array_equal(upright(image), image[::-1])


def test_import_loads_neither_simulator_nor_torch():
    code = (
        "import sys, vla.evaluation.simulator.episodes, vla.evaluation.simulator.expert;"
        "print([name for name in ('torch', 'mujoco', 'robosuite', 'libero') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
