"""Python and packages: whether what is installed is what the toolkit asks for, and pairs that are known not to fit."""

from __future__ import annotations

import ast
import platform
import sys
from collections.abc import Iterator
from importlib import import_module, metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

import vla
from vla.overwatch.findings import Finding
from vla.torchvision_shim import operators_load, prepare_torchvision

SECTION = "Software"
_OLDEST_PYTHON = (3, 10)
_IMPORTS = {"Pillow": "PIL", "pyyaml": "yaml"}  # where the module is not called like its package
_TORCHVISION_AHEAD = 15  # torch 2.6 and torchvision 0.21 belong together, 2.7 and 0.22, and so on


def check() -> Iterator[Finding]:
    """Python, every required package, and bad combinations. Imports all of them, which takes seconds."""
    yield _python()
    packages = [_package(requirement) for requirement in requirements()]
    good = [f"{item.name} {item.detail}" for item in packages if item.status == "ok"]
    yield Finding("packages", "ok" if good else "note", ", ".join(good) or "none is known", section=SECTION)
    yield from (item for item in packages if item.status != "ok")
    yield from _torchvision()
    yield from _torch_build()


def requirements() -> list[Requirement]:
    """What the toolkit needs, of the installed package or else of the checkout's setup.py; without extras."""
    try:
        texts = [text for text in metadata.requires("vla") or [] if "extra ==" not in text]
    except metadata.PackageNotFoundError:
        texts = _of_setup(Path(vla.__file__).resolve().parents[1] / "setup.py")
    found = []
    for text in texts:
        try:
            found.append(Requirement(text))
        except InvalidRequirement:
            continue
    return found


def _of_setup(path: Path) -> list[str]:
    """The list REQUIRED of a setup.py that is only read, never run."""
    if not path.is_file():
        return []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "REQUIRED":
            return list(ast.literal_eval(node.value))
    return []


def _python() -> Finding:
    version, where = platform.python_version(), sys.prefix
    detail = f"{version}, {platform.system()} {platform.machine()}, {where}"
    if sys.version_info < _OLDEST_PYTHON:
        wanted = ".".join(map(str, _OLDEST_PYTHON))
        return Finding("Python", "broken", detail, f"install Python {wanted} or newer", SECTION)
    return Finding("Python", "ok", detail, section=SECTION)


def _package(requirement: Requirement) -> Finding:
    """Whether a package is there, in range, and can be imported."""
    name = requirement.name
    install = f"pip install '{requirement}'"
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(name, "broken", "is not installed", install, SECTION)
    try:
        if name in ("torchvision", "timm", "transformers"):
            prepare_torchvision()
        import_module(_IMPORTS.get(name, name))
    except Exception as error:  # whatever a foreign package does at import
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return Finding(name, "broken", f"{version} does not import: {reason}", f"reinstall it: {install}", SECTION)
    if not requirement.specifier.contains(version, prereleases=True):
        detail = f"{version} is outside of what is tested ({requirement.specifier})"
        return Finding(name, "warning", detail, install, SECTION)
    return Finding(name, "ok", version, section=SECTION)


def _torchvision() -> Iterator[Finding]:
    """torchvision's compiled operators fit one build of torch only."""
    try:
        torch, torchvision = Version(metadata.version("torch")), Version(metadata.version("torchvision"))
    except metadata.PackageNotFoundError:
        return
    wanted = f"torchvision 0.{torch.minor + _TORCHVISION_AHEAD}"
    install = f"install the pair from one index: torch {torch.base_version} goes with {wanted}"
    if torch.major == 2 and torchvision.minor != torch.minor + _TORCHVISION_AHEAD:
        yield Finding("torch, torchvision", "warning", f"{torch} and {torchvision} are no pair", install, SECTION)
    elif not operators_load():
        detail = f"torchvision {torchvision}'s operators were made for another build than torch {torch}"
        advice = f"nothing here calls them, and importing works; to be rid of it, {install}"
        yield Finding("torch, torchvision", "note", detail, advice, SECTION)
    else:
        yield Finding("torch, torchvision", "ok", f"{torch} and {torchvision} fit", section=SECTION)


def _torch_build() -> Iterator[Finding]:
    """A torch without CUDA beside an NVIDIA GPU is the most frequent mistake of an installation."""
    try:
        import torch
    except Exception:  # said above
        return
    gpus = sorted(Path("/proc/driver/nvidia/gpus").glob("*")) if sys.platform == "linux" else []
    if gpus and torch.version.cuda is None and torch.version.hip is None:
        detail = f"torch {torch.__version__} is a build without CUDA, but there are {len(gpus)} NVIDIA GPUs"
        yield Finding("torch build", "warning", detail, "install torch's CUDA build (pytorch.org/get-started)", SECTION)
