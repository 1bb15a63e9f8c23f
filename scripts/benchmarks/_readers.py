"""Readers of data, configurations and messages that others give: valid ones, and what a user's goes through."""

import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from _forged import Target, register, to_json
from PIL import Image

from vla.conf import cli
from vla.conf.datasets import LiberoConfig, MVTecADConfig
from vla.conf.models.base import ProcessorConfig
from vla.conf.pretrain import PretrainConfig
from vla.conf.published_uniad import import_config
from vla.data.anomaly.index import read_index
from vla.data.dataset_statistics import read_dataset_statistics, write_dataset_statistics
from vla.data.datasets.hdf5_index import scan
from vla.data.downloading.unpack import unpack
from vla.data.language.annotation_scan import read_annotations
from vla.data.processor import Processor
from vla.data.statistics import ArrayStatistics
from vla.reporting.history import read_history
from vla.serving.policy_server.contract import Served
from vla.serving.policy_server.observations import read_observation
from vla.serving.policy_server.wire import dump_json, dump_msgpack, load_json, load_msgpack
from vla.serving.question_answering import read_pictures
from vla.serving.vlm import read_picture

_UNIAD = Path(__file__).parents[2] / "tests" / "golden" / "uniad" / "config.yaml"
_CHATS = [
    [{"id": str(i), "image": "0.png", "conversations": [{"from": "human", "value": "<image>\nWhat?"},
     {"from": "gpt", "value": "A cup."}]} for i in range(4)],
    [{"id": 3, "conversations": [{"from": "human", "value": "é"}]}],
]  # fmt: skip


def _picture(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)).save(stream, format=kind)
    return stream.getvalue()


def example_processor() -> Processor:
    """Of a policy."""
    statistics = ArrayStatistics.of(np.random.default_rng(0).normal(size=(50, 7)))
    return Processor(ProcessorConfig(cameras=("agentview",)), 8, {"actions": statistics})


# --- data ---


@register("HDF5 demonstrations")
def _demonstrations(folder: Path) -> Target:
    path, numbers = folder / "task_demo.hdf5", np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["problem_info"] = json.dumps({"language_instruction": "put the bowl away"})
        for number in range(2):
            demo = data.create_group(f"demo_{number}")
            demo["actions"] = numbers.uniform(-1, 1, (6, 7))
            for key, size in {"ee_pos": 3, "ee_ori": 3, "gripper_states": 2}.items():
                demo[f"obs/{key}"] = numbers.normal(size=(6, size))
            for camera in ("agentview", "eye_in_hand"):
                demo[f"obs/{camera}_rgb"] = np.zeros((6, 4, 4, 3), dtype=np.uint8)
    cameras = ("agentview", "eye_in_hand")
    return Target((path.read_bytes(),), path.name, lambda path: scan(LiberoConfig(root=path.parent), cameras, True))


@register("conversations")
def _conversations(folder: Path) -> Target:
    return Target(tuple(map(to_json, _CHATS)), "chat.json", read_annotations)


@register("questions")
def _questions(folder: Path) -> Target:
    return Target(tuple(map(to_json, _CHATS)), "questions.json", read_pictures)


@register("MVTec-AD's meta file")
def _meta(folder: Path) -> Target:
    (folder / "cup/test/crack").mkdir(parents=True)
    (folder / "cup/test/crack/0.png").write_bytes(_picture("png"))
    row = {"filename": "cup/test/crack/0.png", "label": 1, "label_name": "defective", "clsname": "cup"}
    lines = b"\n".join([to_json(row), to_json({**row, "maskname": row["filename"]})])
    return Target((lines,), "train.json", lambda path: read_index(MVTecADConfig(root=path.parent), "train"))


@register("pictures")
def _pictures(folder: Path) -> Target:
    return Target(tuple(map(_picture, ("png", "jpeg", "bmp", "gif"))), "picture", read_picture)


@register("zip archives")
def _archives(folder: Path) -> Target:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"train/{number}.txt", "text " * 50)
    return Target((stream.getvalue(),), "images.zip", _unpack)


def _unpack(path: Path) -> int:
    with tempfile.TemporaryDirectory(dir=path.parent) as outer:
        try:
            return unpack(path, Path(outer) / "inner")
        finally:
            strays = [item.name for item in Path(outer).iterdir() if item.name != "inner"]
            assert not strays, f"{strays} were written outside of the folder"


@register("dataset_statistics.json")
def _statistics(folder: Path) -> Target:
    path = write_dataset_statistics(folder, "libero_object", example_processor().statistics, 3)
    return Target((path.read_bytes(),), path.name, read_dataset_statistics)


# --- configurations and runs ---


@register("configuration")
def _configuration(folder: Path) -> Target:
    return Target((cli.dump(PretrainConfig()).encode(),), "config.yaml", lambda path: cli.load(PretrainConfig, path))


@register("UniAD's configuration")
def _uniad(folder: Path) -> Target:
    return Target((_UNIAD.read_bytes(),), "uniad.yaml", import_config)


@register("metrics.jsonl")
def _metrics(folder: Path) -> Target:
    lines = [to_json({"global_step": step, "train/loss": 1.0 / step, "epoch": 0.5}) for step in (1, 2, 3)]
    return Target((b"\n".join(lines),), "metrics.jsonl", read_history)


# --- the policy server ---


def _messages(dump: Callable[[Any], bytes], load: Callable[[bytes], Any]) -> Target:
    served = Served("policy", "0", example_processor().contract())
    picture = np.zeros((8, 8, 3), np.uint8)
    valid = (
        dump({"images": {"agentview": picture}, "instruction": "put the bowl away", "step": 3, "session": "a"}),
        dump({"full_image": picture, "prompt": "stack", "state": np.zeros(8), "seed": 1, "request_id": 4}),
        dump({"contract": {"conventions": {"control_hz": 20.0}}, "image": picture.tolist(), "instruction": "wait"}),
    )

    def read(path: Path) -> object:
        message = load(path.read_bytes())
        if isinstance(message, dict) and "contract" in message:
            served.check(message["contract"])
        return read_observation(message, served)

    return Target(valid, "message", read)


@register("messages in JSON")
def _json_messages(folder: Path) -> Target:
    return _messages(dump_json, load_json)


@register("messages in msgpack")
def _msgpack_messages(folder: Path) -> Target:
    return _messages(dump_msgpack, load_msgpack)
