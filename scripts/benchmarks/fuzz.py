"""Files that somebody damaged or forged, against every reader: each must give a value or the documented error.

    python scripts/bench.py fuzz --save                 # 120,000 inputs
    python scripts/bench.py fuzz --inputs 600           # a look

Valid files are mutated at random (bits, numbers, brackets, cut, doubled, put together) and read: HDF5 demonstrations,
annotations with conversations, meta files (processor.json, statistics, a checkpoint's manifest), configurations, and
checkpoints' tensors. `crashes` counts every other end than a value or an error for the user, in a process of its own
so that one that takes the interpreter along is counted, too. `peak_MB` is the largest memory of that process.
"""

import json
import os
import pickle
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from vla.conf import cli
from vla.conf.datasets import LiberoConfig
from vla.conf.models.base import ProcessorConfig
from vla.conf.pretrain import PretrainConfig
from vla.data.datasets.hdf5_index import scan
from vla.data.language.annotation_scan import read_annotations
from vla.data.materialize import load_processor
from vla.data.processor import Processor
from vla.data.statistics import ArrayStatistics
from vla.errors import UserError
from vla.training.checkpoint_files import CheckpointWriter, read_tensors, verify_checkpoint

Reader = Callable[[Path], object]
TOKENS = [
    b"null", b"NaN", b"-1", b"9" * 40, b"1e999", b"{}", b"[]", b'""', b"\x00", b"\xff\xfe", b"[" * 3000, b'{"a":' * 500,
    b"!!python/object/apply:os.system ['true']", b"&a [*a]", b"../../../etc/passwd", b"\xed\xa0\x80", b"true",
]  # fmt: skip
HEADER = 2048  # bytes at the front, which are hit more often: most of a large file is data


def mutate(content: bytes, other: bytes, chance: random.Random) -> bytes:
    """One to four random changes of `content`; `other` is a second valid file, to be put together with it."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        size = len(data)
        reach = min(size, HEADER) if chance.random() < 0.7 else size
        place = chance.randrange(reach) if reach else 0
        way = chance.randrange(7)
        if way == 0 and size:
            data[place] ^= 1 << chance.randrange(8)
        elif way == 1:
            data[place : place + chance.randint(0, 8)] = chance.choice(TOKENS)
        elif way == 2:
            del data[place:]
        elif way == 3:
            end = place + chance.randint(1, 64)
            data[place:place] = data[place:end] * chance.randint(1, 20)
        elif way == 4 and size > 8:
            data[place : place + 8] = chance.getrandbits(64).to_bytes(8, "little")
        elif way == 5:
            del data[place : place + chance.randint(1, 64)]
        else:
            cut = chance.randrange(len(other) + 1)
            data[place:] = other[cut : cut + 4096]
    return bytes(data)


def make_targets(folder: Path) -> dict[str, tuple[list[Path], Callable[[Path], Path], Reader]]:
    """By name: valid files, where a mutated one has to lie below a folder, and what reads it from there."""
    demos = _write_demos(folder / "valid.hdf5")
    chats = folder / "chat.json"
    rows = [{"id": str(i), "image": f"{i}.jpg", "conversations": [{"from": "human", "value": "<image>\nWhat?"},
             {"from": "gpt", "value": "A cup."}]} for i in range(4)]  # fmt: skip
    chats.write_text(json.dumps(rows))
    more = folder / "more.json"
    more.write_text(json.dumps([{"id": 3, "conversations": [{"from": "human", "value": "é"}]}], ensure_ascii=False))
    config = folder / "config.yaml"
    config.write_text(cli.dump(PretrainConfig()))
    statistics = ArrayStatistics.of(np.random.default_rng(0).normal(size=(50, 7)))
    processor = Processor(ProcessorConfig(), 8, {"actions": statistics}).save(folder)
    checkpoint = folder / "step-000001"
    with CheckpointWriter(checkpoint) as writer:
        import torch

        writer.tensors("model/a.safetensors", {"x": torch.arange(64.0), "y": torch.zeros(3, dtype=torch.int64)})
        writer.commit({"global_step": 1, "groups": ["a"]})
    pickled = folder / "weights.pt"
    torch.save({"model": {"projector": {"a": torch.ones(4)}}}, pickled)
    (folder / "evil.pt").write_bytes(pickle.dumps(_Evil(folder / "executed")))
    return {
        "HDF5 demonstrations": ([demos], lambda root: root / "task_demo.hdf5", _read_demos),
        "conversations": ([chats, more], lambda root: root / "chat.json", lambda path: read_annotations(path)),
        "configuration": ([config], lambda root: root / "config.yaml", lambda path: cli.load(PretrainConfig, path)),
        "processor.json": ([processor], lambda root: root / "processor.json", lambda path: load_processor(path.parent)),
        "checkpoint manifest": (
            [checkpoint / "manifest.json"],
            lambda root: root / "manifest.json",
            lambda path: verify_checkpoint(path.parent),
        ),
        "checkpoint tensors": (
            [checkpoint / "model/a.safetensors"], lambda root: root / "a.safetensors", lambda path: read_tensors(path)
        ),
        "published checkpoint": ([pickled, folder / "evil.pt"], lambda root: root / "latest.pt", _read_published),
    }  # fmt: skip


class _Evil:
    """A pickle that would leave a mark, were it executed."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.mark),))


def _write_demos(path: Path) -> Path:
    random_numbers = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["problem_info"] = json.dumps({"language_instruction": "put the bowl away"})
        for number in range(2):
            demo = data.create_group(f"demo_{number}")
            demo["actions"] = random_numbers.uniform(-1, 1, (6, 7))
            for key, size in {"ee_pos": 3, "ee_ori": 3, "gripper_states": 2}.items():
                demo[f"obs/{key}"] = random_numbers.normal(size=(6, size))
            for camera in ("agentview", "eye_in_hand"):
                demo[f"obs/{camera}_rgb"] = np.zeros((6, 4, 4, 3), dtype=np.uint8)
    return path


def _read_demos(path: Path) -> object:
    return scan(LiberoConfig(root=path.parent), ("agentview", "eye_in_hand"), True)


def _read_published(path: Path) -> object:
    from vla.models.weights.prismatic import read_prismatic

    return read_prismatic(path)


def run(inputs: int = 120_000, seed: int = 0) -> dict[str, Any]:
    """Read mutated files with every reader.

    Args:
        inputs: in all, an equal share for each reader.
        seed: of the mutations.
    """
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        targets = make_targets(folder)
        for target, (valid, place, read) in targets.items():
            root = folder / f"read {target}"
            root.mkdir()
            counts = _in_a_process(valid, place(root), read, -(-inputs // len(targets)), seed)
            rows.append({"name": target, **counts})
        executed = (folder / "executed").exists()
    crashes = sum(row["crashes"] for row in rows) + executed
    return {"rows": rows, "inputs": sum(row["inputs"] for row in rows), "crashes": crashes, "code_executed": executed}


def _in_a_process(valid: list[Path], target: Path, read: Reader, inputs: int, seed: int) -> dict[str, Any]:
    """Read in forked processes; one that dies is counted and followed by another."""
    report = target.parent / ".report"
    total: dict[str, Any] = {"inputs": 0, "accepted": 0, "refused": 0, "crashes": 0, "peak_MB": 0, "first_crash": ""}
    start = time.monotonic()
    while total["inputs"] < inputs:
        pid = os.fork()
        if not pid:
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # warnings about every file
                _read_many(valid, target, read, total, inputs, seed, report)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        known = json.loads(report.read_text())
        if known["inputs"] < inputs and known["reading"]:
            known["crashes"] += 1
            known["inputs"] += 1
            known["first_crash"] = known["first_crash"] or f"input {known['inputs']}: the process died"
        known.pop("reading")
        total = known
    report.unlink()
    return {**total, "seconds": round(time.monotonic() - start, 1)}


def _read_many(
    valid: list[Path], target: Path, read: Reader, counts: dict[str, Any], inputs: int, seed: int, report: Path
) -> None:
    contents = [path.read_bytes() for path in valid]
    while counts["inputs"] < inputs:
        chance = random.Random(f"{seed} {target.name} {counts['inputs']}")
        target.write_bytes(mutate(chance.choice(contents), chance.choice(contents), chance))
        report.write_text(json.dumps({**counts, "reading": True}))
        try:
            read(target)
            counts["accepted"] += 1
        except UserError as error:
            counts["refused"] += 1
            if "\n" in str(error):
                counts["crashes"] += 1
                counts["first_crash"] = counts["first_crash"] or f"more than a line: {error!r}"
        except BaseException as error:
            counts["crashes"] += 1
            shown = f"input {counts['inputs']}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            counts["first_crash"] = counts["first_crash"] or shown
        counts["inputs"] += 1
        counts["peak_MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (
            1 if sys.platform == "darwin" else 1024
        )
    report.write_text(json.dumps({**counts, "reading": False}))
