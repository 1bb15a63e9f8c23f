"""The dated record of a benchmark: hardware, versions, command, figures."""

import datetime
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "numpy", "transformers", "h5py")


def hardware() -> str:
    """The machine in a line."""
    import psutil
    import torch

    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    memory = psutil.virtual_memory().total / 2**30
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    cores = f"{psutil.cpu_count()} cores, {torch.get_num_threads()} torch threads"
    return ", ".join([model, cores, f"{memory:.0f} GiB", *(gpus or ["no GPU"])])


def to_markdown(name: str, doc: str, result: dict[str, Any], command: str) -> str:
    """The dated record of a benchmark."""

    def cell(value: Any) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    lines = [f"# {name}", "", doc.strip(), "", f"- date: {datetime.date.today()}", f"- hardware: {hardware()}"]
    lines += [f"- versions: Python {platform.python_version()}, " + ", ".join(f"{p} {version(p)}" for p in PACKAGES)]
    lines += [f"- command: `{command}`"]
    plain = {key: value for key, value in result.items() if key not in ("rows", "measure", "larger_is_better")}
    lines += [f"- {key}: {cell(value)}" for key, value in plain.items()]
    if rows := result.get("rows"):
        columns = list(dict.fromkeys(key for row in rows for key in row))
        lines += ["", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(cell(row.get(column, "")) for column in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"
