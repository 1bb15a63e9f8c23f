"""Readers of robot data that others give, in LeRobot's layout and in RLDS: small valid datasets, one file replaced."""

import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _forged import Target, register, to_json
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from PIL import Image

from vla.conf.datasets import LeRobotConfig, RLDSConfig
from vla.conf.models.atlas import VGGTTinyConfig
from vla.conf.models.base import ProcessorConfig
from vla.data.materialize import get_datasets

STEPS, FPS, SIZE = 4, 10, 32
_MODEL = VGGTTinyConfig(processor=ProcessorConfig(cameras=("front",), proprio=True))
_DATA, _VIDEO = "data/chunk-000/episode_000000.parquet", "videos/chunk-000/front/episode_000000.mp4"


def _open(config: Any, place: str) -> Callable[[Path], object]:
    """Opens the dataset that the file at `place` is of, and reads a sample's pictures; keeps nothing beside it."""

    def read(path: Path) -> object:
        root = path.parents[len(Path(place).parts) - 1]
        try:
            data = get_datasets(config(root=root, preset="libero", validation_episodes=0), _MODEL)
            return data.train[0]["images"]
        finally:
            for kept in root.glob(".*"):
                kept.unlink()

    return read


def _frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (STEPS, SIZE, SIZE, 3), dtype=np.uint8)


def _png(frame: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(frame).save(stream, "PNG")
    return stream.getvalue()


def _write_lerobot(root: Path, video: bool) -> None:
    camera = {"dtype": "video" if video else "image", "shape": [SIZE, SIZE, 3], "names": None}
    info = {
        "codebase_version": "v2.1", "fps": FPS, "chunks_size": 1000, "total_episodes": 1, "total_frames": STEPS,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": {
            "front": camera, "action": {"dtype": "float32", "shape": [7]}, "state": {"dtype": "float32", "shape": [8]},
        },
    }  # fmt: skip
    for name in ("meta", str(Path(_DATA).parent), str(Path(_VIDEO).parent)):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "meta/info.json").write_text(json.dumps(info))
    (root / "meta/episodes.jsonl").write_text(json.dumps({"episode_index": 0, "length": STEPS}) + "\n")
    (root / "meta/tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": "put the bowl away"}) + "\n")
    numbers, columns = np.random.default_rng(0), dict[str, Any]()
    columns["action"] = [row.tolist() for row in numbers.uniform(-1, 1, (STEPS, 7)).astype(np.float32)]
    columns["state"] = [row.tolist() for row in numbers.normal(size=(STEPS, 8)).astype(np.float32)]
    columns |= {"timestamp": np.arange(STEPS) / FPS, "episode_index": [0] * STEPS, "task_index": [0] * STEPS}
    if not video:
        columns["front"] = [{"bytes": _png(frame), "path": None} for frame in _frames()]
    pq.write_table(pa.table(columns), root / _DATA)
    if video:
        with av.open(str(root / _VIDEO), "w") as container:
            stream = container.add_stream("libx264", rate=FPS)
            stream.height = stream.width = SIZE
            stream.pix_fmt = "yuv420p"
            for frame in _frames():
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())


def _lerobot(folder: Path, place: str, video: bool = False) -> Target:
    _write_lerobot(folder, video)
    return Target(((folder / place).read_bytes(),), place, _open(LeRobotConfig, place))


@register("LeRobot description")
def _description(folder: Path) -> Target:
    return _lerobot(folder, "meta/info.json")


@register("LeRobot list of episodes")
def _episodes(folder: Path) -> Target:
    return _lerobot(folder, "meta/episodes.jsonl")


@register("LeRobot steps")
def _steps(folder: Path) -> Target:
    return _lerobot(folder, _DATA)


@register("LeRobot video")
def _video(folder: Path) -> Target:
    return _lerobot(folder, _VIDEO, video=True)


# --- RLDS ---


def _example() -> bytes:
    """An episode as `tf.train.Example`, serialised by the protobuf package."""
    file = descriptor_pb2.FileDescriptorProto(name="robot.proto", package="r", syntax="proto3")
    feature = descriptor_pb2.DescriptorProto(name="Feature")
    for number, (name, kind) in enumerate({"bytes": 12, "floats": 2, "integers": 3}.items(), 1):
        file.message_type.add(name=name).field.add(name="value", number=1, label=3, type=kind)
        feature.field.add(name=f"{name}_list", number=number, label=1, type=11, type_name=f".r.{name}")
    file.message_type.append(feature)
    entry = file.message_type.add(name="Entry")
    entry.field.add(name="key", number=1, label=1, type=9)
    entry.field.add(name="value", number=2, label=1, type=11, type_name=".r.Feature")
    for name, inner, label in (("Features", "Entry", 3), ("Example", "Features", 1)):
        message = file.message_type.add(name=name)
        message.field.add(name="inner", number=1, label=label, type=11, type_name=f".r.{inner}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    example = message_factory.GetMessageClass(pool.FindMessageTypeByName("r.Example"))()
    numbers = np.random.default_rng(0)
    for key, name, values in (
        ("steps/action", "floats", numbers.uniform(-1, 1, STEPS * 7).tolist()),
        ("steps/observation/state", "floats", numbers.normal(size=STEPS * 8).tolist()),
        ("steps/observation/front", "bytes", [_png(frame) for frame in _frames()]),
        ("steps/language_instruction", "bytes", [b"put the bowl away"] * STEPS),
        ("steps/is_first", "integers", [1] + [0] * (STEPS - 1)),
    ):
        getattr(example.inner.inner.add(key=key).value, f"{name}_list").value.extend(values)
    content: bytes = example.SerializeToString()
    return content


def _record(payload: bytes) -> bytes:
    def masked(data: bytes) -> bytes:
        crc = google_crc32c.value(data)
        return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(payload))
    return length + masked(length) + payload + masked(payload)


def _write_rlds(root: Path) -> None:
    def tensor(*shape: int) -> dict[str, Any]:
        return {"tensor": {"shape": {"dimensions": [str(size) for size in shape]}, "dtype": "float32"}}

    picture = {"image": {"shape": {"dimensions": [str(SIZE), str(SIZE), "3"]}, "dtype": "uint8"}}
    observation = {"featuresDict": {"features": {"front": picture, "state": tensor(8)}}}
    steps = {"action": tensor(7), "language_instruction": {"text": {}}, "observation": observation}
    inner = {"sequence": {"feature": {"featuresDict": {"features": steps}}}}
    (root / "features.json").write_bytes(to_json({"featuresDict": {"features": {"steps": inner}}}))
    (root / "dataset_info.json").write_bytes(to_json({"name": "a", "splits": [{"name": "train"}]}))
    (root / _SHARD).write_bytes(_record(_example()))


_SHARD = "a-train.tfrecord-00000-of-00001"


@register("RLDS description")
def _features(folder: Path) -> Target:
    _write_rlds(folder)
    name = "features.json"
    return Target(((folder / name).read_bytes(),), name, _open(RLDSConfig, name))


@register("TFRecord file")
def _tfrecord(folder: Path) -> Target:
    _write_rlds(folder)
    return Target(((folder / _SHARD).read_bytes(),), _SHARD, _open(RLDSConfig, _SHARD))


@register("RLDS episode")
def _episode(folder: Path) -> Target:
    """The message alone, put into a record whose checksums are right."""
    _write_rlds(folder)
    read = _open(RLDSConfig, _SHARD)

    def put_in_a_record(path: Path) -> object:
        (path.parent / _SHARD).write_bytes(_record(path.read_bytes()))
        return read(path.parent / _SHARD)

    return Target((_example(),), "episode", put_in_a_record)
