"""Small HDF5 files in LIBERO's layout, whose pictures tell where they come from."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from vla.conf.datasets import LiberoConfig
from vla.conf.models.atlas import VGGTTinyConfig
from vla.conf.models.base import ProcessorConfig
from vla.conf.models.components import ChunkHeadConfig, PoseGripperHeadConfig
from vla.data.datasets.base import Datasets
from vla.data.materialize import get_datasets
from vla.data.processor import Processor

HEIGHT, WIDTH = 8, 10
TASK = "put_the_bowl_on_the_plate"
CAMERA_NUMBERS = {"agentview": 1, "eye_in_hand": 2}
COMPRESSED = {"compression": "gzip", "compression_opts": 4, "chunks": (4, 2, WIDTH, 3)}


def episode_actions(number: int, length: int) -> np.ndarray:
    """Actions float64 [T, 7] that differ at every step."""
    actions = np.random.default_rng(number).uniform(-0.9, 0.9, (length, 7))
    actions[:, 6] = np.where(np.arange(length) < length // 2, -1.0, 1.0)
    return actions


def write_demo(data: h5py.Group, demo: str, length: int, number: int = 0, image_options: Any = None) -> h5py.Group:
    """Add a demonstration; the first pixel of every picture is (episode number, row, camera number)."""
    group = data.create_group(demo)
    random = np.random.default_rng(number)
    group["actions"] = episode_actions(number, length)
    for key, size in {"ee_pos": 3, "ee_ori": 3, "gripper_states": 2, "joint_states": 7}.items():
        group[f"obs/{key}"] = random.normal(size=(length, size)) + np.arange(length)[:, None]
    for camera, camera_number in CAMERA_NUMBERS.items():
        images = random.integers(0, 256, (length, HEIGHT, WIDTH, 3), dtype=np.uint8)
        images[:, 0, 0] = np.stack([np.full(length, number), np.arange(length), np.full(length, camera_number)], axis=1)
        options = dict(image_options or {})
        if options.get("chunks"):
            options["chunks"] = (min(options["chunks"][0], length), *options["chunks"][1:])
        group.create_dataset(f"obs/{camera}_rgb", data=images, **options)
    return group


def write_task(
    folder: Path,
    task: str = TASK,
    lengths: tuple[int, ...] = (12, 9, 15),
    demos: tuple[int, ...] | None = None,
    official: bool = True,
    image_options: Any = None,
    attributes: dict[str, Any] | None = None,
) -> Path:
    """Write `<task>_demo.hdf5`: with the attributes of official files, or without any as regenerated ones."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{task}_demo.hdf5"
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        if official:
            spoken = {"problem_name": "libero_floor_manipulation", "language_instruction": "pick the bowl"}
            data.attrs["problem_info"] = json.dumps(spoken)
            data.attrs["num_demos"] = len(lengths)
        data.attrs.update(attributes or {})
        for number, (demo, length) in enumerate(zip(demos or range(len(lengths)), lengths, strict=True)):
            group = write_demo(data, f"demo_{demo}", length, number, image_options)
            if official:
                group.attrs["num_samples"] = length
    return path


def open_libero(
    root: Path, window: dict[str, Any] | None = None, chunk: int = 4, processor: Processor | None = None, **options: Any
) -> Datasets:
    """The data in `root` as a model would see it; `window` are fields of `ProcessorConfig`, `options` of the data."""
    config = ProcessorConfig(**{"image_size": 112, "proprio": True, **(window or {})})
    head = ChunkHeadConfig(chunk_size=chunk) if chunk > 1 else PoseGripperHeadConfig()
    model = VGGTTinyConfig(processor=config, action_head=head)
    return get_datasets(LiberoConfig(root=root, **{"validation_episodes": 0, **options}), model, processor)


def image_tags(images: np.ndarray) -> list[list[int]]:
    """[episode number, row, camera number] of every image of a sample [S, 3, H, W]."""
    return images[:, :, 0, 0].tolist()
