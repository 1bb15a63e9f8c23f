"""What a run ran on, so that its numbers can be understood later."""

import os
import platform
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil
import torch

import vla
from vla.overwatch.distributed import DistState

PACKAGES = ("torch", "transformers", "timm", "numpy", "h5py", "draccus", "safetensors")


def package_versions(names: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Versions of the installed ones of `names`."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def describe_environment(dist: DistState) -> dict[str, Any]:
    """Versions, hardware and command as JSON values."""
    devices: dict[str, Any] = {}
    if torch.cuda.is_available():
        devices["gpu"] = torch.cuda.get_device_name()
        devices["gpu_memory_gib"] = round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)
    return {
        "vla": vla.__version__,
        "python": platform.python_version(),
        **package_versions(),
        "platform": platform.platform(),
        "processor": _processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        **devices,
        "device": dist.device,
        "processes": dist.world_size,
        "backend": dist.backend,
        "command": shlex.join([os.path.basename(sys.executable), *sys.argv]),
    }


def _processor_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
