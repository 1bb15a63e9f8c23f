"""The machine: cores, memory, shared memory, GPUs and their driver, and which number formats are fast on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

from vla.overwatch.findings import Finding

SECTION = "Hardware"
GIB = 2**30
_LEAST_MEMORY, _LEAST_SHARED = 4 * GIB, GIB
_QUERY_SECONDS = 10.0  # to wait for nvidia-smi
_SIZE = 384  # rows of the matrices that are multiplied


def check() -> Iterator[Finding]:
    """Processor, memory, GPUs, and the default precision."""
    yield _processor()
    yield _memory()
    yield from _shared_memory()
    yield from _driver()
    yield from _gpus()
    yield _bf16()


def _processor() -> Finding:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS")
    detail = f"{allowed} of {os.cpu_count()} cores, {torch.get_num_threads()} threads for torch"
    detail += f" (OMP_NUM_THREADS={threads})" if threads else ""
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if busy > 1.5 * allowed:
        advice = "other programs use the cores: timings will be worse than they need be"
        return Finding("processor", "note", f"{detail}; {busy:.1f} processes want to run", advice, SECTION)
    return Finding("processor", "ok", detail, section=SECTION)


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    limit = _cgroup_limit()
    total = min(memory.total, limit or memory.total)
    detail = f"{total / GIB:.1f} GiB, {min(memory.available, total) / GIB:.1f} GiB free"
    if total < _LEAST_MEMORY:
        advice = "models with tiny in their id fit; for others vla train --dry_run says what they need"
        return Finding("memory", "warning", detail, advice, SECTION)
    return Finding("memory", "ok", detail, section=SECTION)


def _cgroup_limit() -> int | None:
    """Bytes that a container may use, if it says so."""
    try:
        return int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
    except (OSError, ValueError):  # "max", or no such file
        return None


def _shared_memory() -> Iterator[Finding]:
    """Processes that read data hand their batches over in /dev/shm."""
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return
    total = shutil.disk_usage(folder).total
    if total < _LEAST_SHARED:
        advice = "give the container more (docker run --shm-size=8g), or train with --loader.num_workers 0"
        yield Finding("shared memory", "warning", f"/dev/shm has {total / GIB:.2f} GiB", advice, SECTION)
    else:
        yield Finding("shared memory", "ok", f"/dev/shm has {total / GIB:.1f} GiB", section=SECTION)


def _driver() -> Iterator[Finding]:
    """The NVIDIA driver, and whether torch can use it."""
    if shutil.which("nvidia-smi") is None:
        if torch.cuda.is_available():
            yield Finding("driver", "ok", "CUDA works (no nvidia-smi to ask for its version)", section=SECTION)
        return
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_QUERY_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        advice = "the driver hangs: restart the machine, or ask its administrator"
        yield Finding("driver", "warning", f"nvidia-smi does not answer ({type(error).__name__})", advice, SECTION)
        return
    version = (done.stdout.split() or [""])[0]
    if done.returncode or not version:
        reason = (done.stderr.strip() or done.stdout.strip() or "no GPU").splitlines()[-1]
        yield Finding("driver", "note", f"nvidia-smi finds no GPU: {reason}", "", SECTION)
    elif torch.version.cuda and not torch.cuda.is_available():
        detail = f"{version}, but torch {torch.__version__} (CUDA {torch.version.cuda}) can't use it"
        advice = "update the driver, or install a torch for an older CUDA; CUDA_VISIBLE_DEVICES may also hide the GPUs"
        yield Finding("driver", "broken", detail, advice, SECTION)
    else:
        yield Finding("driver", "ok", f"{version}, torch's CUDA {torch.version.cuda or 'none'}", section=SECTION)


def _gpus() -> Iterator[Finding]:
    if not torch.cuda.is_available():
        advice = "models of some 100 M parameters train on a CPU; for 7 B use --dry_run to plan GPUs"
        yield Finding("GPUs", "note", "none that torch can use: everything runs on the CPU", advice, SECTION)
        return
    for index in range(torch.cuda.device_count()):
        name = f"GPU {index}"
        try:
            free, total = torch.cuda.mem_get_info(index)
            torch.ones(8, device=f"cuda:{index}").sum().item()
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            advice = "leave it out with CUDA_VISIBLE_DEVICES, or free it"
            yield Finding(name, "broken", f"{torch.cuda.get_device_name(index)}: {reason}", advice, SECTION)
            continue
        properties = torch.cuda.get_device_properties(index)
        detail = f"{properties.name}, {total / GIB:.1f} GiB, {free / GIB:.1f} GiB free, capability "
        detail += f"{properties.major}.{properties.minor}"
        used = free < 0.8 * total
        advice = "another program has memory of it; nvidia-smi says which" if used else ""
        yield Finding(name, "note" if used else "ok", detail, advice, SECTION)


def _bf16() -> Finding:
    """The default precision: whether it works, and on a CPU, whether it is worth it."""
    if torch.cuda.is_available():
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Finding("bf16", "ok", "in hardware", section=SECTION)
        advice = "--model.<stage>.precision fp16 (with loss scaling) or fp32"
        return Finding("bf16", "warning", "only emulated by this GPU", advice, SECTION)
    slow, fast = _multiply_seconds(torch.float32), _multiply_seconds(torch.bfloat16)
    detail = f"on this CPU a product of matrices takes {fast / slow:.1f} times as long as in fp32"
    if fast > slow:
        advice = "--model.<stage>.precision fp32 is faster here"
        return Finding("bf16", "note", detail, advice, SECTION)
    return Finding("bf16", "ok", detail, section=SECTION)


def _multiply_seconds(dtype: torch.dtype, repeats: int = 5) -> float:
    """The quickest of some products, which other programs on the machine disturb least."""
    matrix = torch.ones(_SIZE, _SIZE, dtype=dtype)
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        torch.mm(matrix, matrix)
        times.append(time.perf_counter() - start)
    return min(times[1:])
