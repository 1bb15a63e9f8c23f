"""The same demonstrations in several public layouts: LIBERO's HDF5, LeRobot v2.1 and v3.0, RLDS.

Written by the layouts' public descriptions, without any of the reader's code.
"""

import io
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from vla.conf.datasets import SHIPPED_DATA

CAMERAS = {"agentview": "image", "eye_in_hand": "wrist_image"}  # the model's names, and those of the other layouts
FPS = 20
MINI = SHIPPED_DATA / "libero-mini"


@dataclass(frozen=True, eq=False)
class Demonstration:
    """What every layout gets."""

    task: str
    instruction: str
    frames: dict[str, np.ndarray]  # by the model's camera, uint8 [T, H, W, 3]
    actions: np.ndarray  # float32 [T, 7]
    states: np.ndarray  # float32 [T, 8]


def shipped(
    tasks: int = 2, episodes: int = 3, steps: int = 10, every: int = 8, smaller: int = 4
) -> list[Demonstration]:
    """Parts of the shipped demonstrations: every so many steps of each, from the start, in smaller pictures."""
    found = []
    for path in sorted(MINI.glob("*_demo.hdf5"))[:tasks]:
        with h5py.File(path) as file:
            instruction = json.loads(file["data"].attrs["problem_info"])["language_instruction"]
            for number in range(episodes):
                group = file[f"data/demo_{number}"]
                rows = np.arange(0, every * (steps + number), every)
                rows = rows[rows < len(group["actions"])]
                states = [group[f"obs/{key}"][()][rows] for key in ("ee_pos", "ee_ori", "gripper_states")]
                found.append(
                    Demonstration(
                        path.stem.removesuffix("_demo"), str(instruction),
                        {name: group[f"obs/{name}_rgb"][()][rows, ::smaller, ::smaller] for name in CAMERAS},
                        group["actions"][()][rows].astype(np.float32),
                        np.concatenate(states, axis=1).astype(np.float32),
                    )
                )  # fmt: skip
    return found


def write_libero(folder: Path, demonstrations: list[Demonstration]) -> Path:
    """Files in LIBERO's layout, observations before their action."""
    folder.mkdir(parents=True)
    numbers: dict[str, int] = {}
    for item in demonstrations:
        number = numbers[item.task] = numbers.get(item.task, -1) + 1
        with h5py.File(folder / f"{item.task}_demo.hdf5", "a") as file:
            data = file.require_group("data")
            data.attrs["problem_info"] = json.dumps({"language_instruction": item.instruction})
            data.attrs["obs_alignment"] = "before_action"
            group = data.create_group(f"demo_{number}")
            group["actions"] = item.actions.astype(np.float64)
            for key, part in zip(("ee_pos", "ee_ori", "gripper_states"), np.split(item.states, [3, 6], 1), strict=True):
                group[f"obs/{key}"] = part.astype(np.float64)
            for name, frames in item.frames.items():
                group[f"obs/{name}_rgb"] = frames
    return folder


# --- LeRobot ---


def encoded(frame: np.ndarray, form: str = "PNG") -> bytes:
    """A picture as a file."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, form, **({"quality": 95} if form == "JPEG" else {"compress_level": 1}))
    return buffer.getvalue()


def write_mp4(path: Path, frames: np.ndarray, codec: str = "libx264", gop: int = 2, **options: str) -> None:
    """A video of `frames` [T, H, W, 3] at FPS frames a second."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv444p" if codec == "libx264" else "yuv420p"
        quality = {"crf": "10", "preset": "ultrafast"} if codec == "libx264" else {"crf": "30", "preset": "10"}
        stream.options = {"g": str(gop), **quality, **options}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _info(version: str, items: list[Demonstration], video: bool, **extra: Any) -> dict[str, Any]:
    height, width = items[0].frames["agentview"].shape[1:3]
    kind = {
        "dtype": "video" if video else "image",
        "shape": [height, width, 3],
        "names": ["height", "width", "channel"],
    }
    motors = [f"motor {number}" for number in range(8)]
    scalar = {"shape": [1], "names": None}
    return {
        "codebase_version": version, "robot_type": "panda", "fps": FPS, "chunks_size": 1000,
        "total_episodes": len(items), "total_frames": sum(len(item.actions) for item in items),
        "splits": {"train": f"0:{len(items)}"},
        "features": {
            **{f"observation.images.{name}": kind for name in CAMERAS.values()},
            "observation.state": {"dtype": "float32", "shape": [8], "names": {"motors": motors}},
            "action": {"dtype": "float32", "shape": [7], "names": ["x", "y", "z", "a", "b", "c", "gripper"]},
            "timestamp": {"dtype": "float32", **scalar},
            **{key: {"dtype": "int64", **scalar} for key in ("frame_index", "episode_index", "index", "task_index")},
        },
        **extra,
    }  # fmt: skip


def _tasks(items: list[Demonstration]) -> list[str]:
    return list(dict.fromkeys(item.instruction for item in items))


def _table(items: list[Demonstration], number: int, pictures: str, root: Path) -> pa.Table:
    """The steps of one episode; `pictures` are `embedded`, `beside` or in a `video`."""
    item, length = items[number], len(items[number].actions)
    first = sum(len(other.actions) for other in items[:number])
    columns: dict[str, Any] = {
        "observation.state": pa.array(list(item.states), pa.list_(pa.float32(), 8)),
        "action": pa.array(list(item.actions), pa.list_(pa.float32())),
        "timestamp": pa.array((np.arange(length) / FPS).astype(np.float32)),
        "frame_index": pa.array(np.arange(length)),
        "episode_index": pa.array(np.full(length, number)),
        "index": pa.array(np.arange(first, first + length)),
        "task_index": pa.array(np.full(length, _tasks(items).index(item.instruction))),
    }
    for camera, key in CAMERAS.items() if pictures != "video" else ():
        values = []
        for step, frame in enumerate(item.frames[camera]):
            path = f"images/observation.images.{key}/episode_{number:06d}/frame_{step:06d}.png"
            if pictures == "beside":
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(encoded(frame))
            values.append({"bytes": encoded(frame) if pictures == "embedded" else None, "path": path})
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        columns[f"observation.images.{key}"] = pa.array(values, kind)
    return pa.table(columns)


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2))


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_lerobot_v21(root: Path, items: list[Demonstration], pictures: str = "embedded", **video: Any) -> Path:
    """A dataset in LeRobot's v2.1 layout; `video` are options of `write_mp4`."""
    paths = {
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }
    _write_json(root / "meta/info.json", _info("v2.1", items, pictures == "video", **paths))
    tasks = _tasks(items)
    _write_lines(root / "meta/tasks.jsonl", [{"task_index": n, "task": text} for n, text in enumerate(tasks)])
    rows = [{"episode_index": n, "tasks": [i.instruction], "length": len(i.actions)} for n, i in enumerate(items)]
    _write_lines(root / "meta/episodes.jsonl", rows)
    _write_lines(root / "meta/episodes_stats.jsonl", [{"episode_index": n, "stats": {}} for n in range(len(items))])
    for number, item in enumerate(items):
        path = root / f"data/chunk-000/episode_{number:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(_table(items, number, pictures, root), path, row_group_size=5)
        for camera, key in CAMERAS.items() if pictures == "video" else ():
            target = root / f"videos/chunk-000/observation.images.{key}/episode_{number:06d}.mp4"
            write_mp4(target, item.frames[camera], **video)
    return root


def write_lerobot_v30(root: Path, items: list[Demonstration], pictures: str = "video", **video: Any) -> Path:
    """A dataset in LeRobot's v3.0 layout, all episodes but the last in the first file."""
    paths = {
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    _write_json(root / "meta/info.json", _info("v3.0", items, pictures == "video", **paths))
    tasks = _tasks(items)
    # A data frame with the texts as its index.
    pq.write_table(pa.table({"task_index": list(range(len(tasks))), "task": tasks}), root / "meta/tasks.parquet")
    rows = []
    for file, numbers in enumerate((range(len(items) - 1), range(len(items) - 1, len(items)))):
        (root / "data/chunk-000").mkdir(parents=True, exist_ok=True)
        tables = [_table(items, number, pictures, root) for number in numbers]
        with pq.ParquetWriter(root / f"data/chunk-000/file-{file:03d}.parquet", tables[0].schema) as writer:
            for table in tables:
                writer.write_table(table)
        start = 0
        for number in numbers:
            length = len(items[number].actions)
            row: dict[str, Any] = {
                "episode_index": number, "tasks": [items[number].instruction], "length": length,
                "data/chunk_index": 0, "data/file_index": file,
            }  # fmt: skip
            for key in CAMERAS.values() if pictures == "video" else ():
                place = f"videos/observation.images.{key}"
                row |= {f"{place}/chunk_index": 0, f"{place}/file_index": file}
                row |= {f"{place}/from_timestamp": start / FPS, f"{place}/to_timestamp": (start + length) / FPS}
            rows.append(row)
            start += length
        for camera, key in CAMERAS.items() if pictures == "video" else ():
            frames = np.concatenate([items[number].frames[camera] for number in numbers])
            path = root / f"videos/observation.images.{key}/chunk-000/file-{file:03d}.mp4"
            write_mp4(path, frames, **video)
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), root / "meta/episodes/chunk-000/file-000.parquet")
    return root


# --- RLDS ---


def _varint(value: int) -> bytes:
    out = b""
    value &= 2**64 - 1
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def example(features: dict[str, Any]) -> bytes:
    """A `tf.train.Example` of lists of bytes, float arrays and integer arrays."""
    entries = b""
    for name, values in features.items():
        if isinstance(values, list):
            kind = _field(1, b"".join(_field(1, item) for item in values))
        elif values.dtype.kind == "f":
            kind = _field(2, _field(1, values.astype("<f4").tobytes()))
        else:
            kind = _field(3, _field(1, b"".join(_varint(int(value)) for value in values.reshape(-1))))
        entries += _field(1, _field(1, name.encode()) + _field(2, kind))
    return _field(1, entries)


def record(payload: bytes) -> bytes:
    """A record of a TFRecord file."""

    def masked(data: bytes) -> bytes:
        crc = google_crc32c.value(data)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(payload))
    return length + masked(length) + payload + masked(payload)


def rlds_episode(item: Demonstration, form: str = "PNG") -> dict[str, Any]:
    """Features of an episode, as TensorFlow Datasets flattens them."""
    length = len(item.actions)
    steps = np.arange(length)
    return {
        "steps/action": item.actions,
        "steps/observation/state": item.states,
        **{
            f"steps/observation/{key}": [encoded(frame, form) for frame in item.frames[camera]]
            for camera, key in CAMERAS.items()
        },
        "steps/language_instruction": [item.instruction.encode()] * length,
        "steps/is_first": (steps == 0).astype(np.int64),
        "steps/is_last": (steps == length - 1).astype(np.int64),
        "steps/reward": (steps == length - 1).astype(np.float32),
        "episode_metadata/file_path": [item.task.encode()],
    }


def _tensor(kind: str, *shape: int) -> dict[str, Any]:
    return {"tensor": {"shape": {"dimensions": [str(size) for size in shape]}, "dtype": kind, "encoding": "none"}}


def write_rlds(root: Path, items: list[Demonstration], form: str = "PNG", shards: int = 2) -> Path:
    """A dataset in RLDS, version 1.0.0 below `root`."""
    folder = root / "1.0.0"
    folder.mkdir(parents=True)
    height, width = items[0].frames["agentview"].shape[1:3]
    size = {"dimensions": [str(height), str(width), "3"]}
    picture = {"image": {"shape": size, "dtype": "uint8", "encodingFormat": form.lower()}}
    observation = {**dict.fromkeys(CAMERAS.values(), picture), "state": _tensor("float32", 8)}
    steps = {
        "action": _tensor("float32", 7), "language_instruction": {"text": {}}, "is_first": _tensor("bool"),
        "is_last": _tensor("bool"), "reward": _tensor("float32"),
        "observation": {"featuresDict": {"features": observation}},
    }  # fmt: skip
    features = {
        "steps": {"sequence": {"feature": {"featuresDict": {"features": steps}}, "length": "-1"}},
        "episode_metadata": {"featuresDict": {"features": {"file_path": {"text": {}}}}},
    }
    _write_json(folder / "features.json", {"featuresDict": {"features": features}})
    parts = np.array_split(np.arange(len(items)), shards)
    split = {"name": "train", "shardLengths": [str(len(part)) for part in parts]}
    _write_json(folder / "dataset_info.json", {"name": "mini", "fileFormat": "tfrecord", "splits": [split]})
    for number, part in enumerate(parts):
        content = b"".join(record(example(rlds_episode(items[index], form))) for index in part)
        (folder / f"mini-train.tfrecord-{number:05d}-of-{shards:05d}").write_bytes(content)
    return root
