"""Finding the simulator: messages are one line and name the remedy; none of this needs the simulator."""

from __future__ import annotations

import ctypes.util
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from vla.evaluation.simulator import audit, runtime
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


def test_versions_that_were_forced_did_not_pass(monkeypatch):
    installed(monkeypatch, mujoco="3.3.7")
    monkeypatch.setenv(runtime.ALLOW_VERSIONS_VARIABLE, "1")
    skip = (audit.GOLDEN, audit.REPLAY)
    (check,) = audit.audit_simulator("libero_object", skip=skip)
    assert (check.name, check.status) == ("versions", "failed, forced")
    assert "mujoco 3.3.7" in check.detail and check.detail.endswith("; checked were mujoco 3.2.3")
    installed(monkeypatch)
    assert audit.audit_simulator("libero_object", skip=skip)[0].status == "passed"


@pytest.mark.parametrize(("devices", "chosen"), [(1, "egl"), (0, "osmesa")])
def test_gl_backend_is_one_that_works(monkeypatch, devices, chosen):
    monkeypatch.setenv("MUJOCO_GL", "")
    monkeypatch.setattr(runtime.ctypes.util, "find_library", lambda name: name)
    monkeypatch.setattr(runtime, "egl_devices", lambda: devices)
    assert runtime.choose_gl_backend() == chosen


@pytest.mark.skipif(ctypes.util.find_library("EGL") is None, reason="EGL is not installed")
def test_egl_without_a_driver_has_no_devices():
    code = "from vla.evaluation.simulator import runtime; print(runtime.egl_devices())"
    environment = {**os.environ, "__EGL_VENDOR_LIBRARY_DIRS": "/nonexistent"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == "0\n"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModuleNotFoundError("No module named 'bddl'"), "LIBERO does not import .*bddl.*; install the extra"),
        (AttributeError("'NoneType' object has\nno attribute 'glGetError'"), "with MUJOCO_GL=osmesa .*libosmesa6"),
        (ImportError("Cannot initialize a EGL device display."), "with MUJOCO_GL=osmesa .*libegl-mesa0"),
    ],
)
def test_what_does_not_import_is_one_line_with_its_remedy(monkeypatch, error, words):
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    text = runtime._import_problem(error)
    assert re.search(words, text) and "\n" not in text


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
