"""Files that somebody else made: what leads out of them, or claims to be larger than anything, is refused in a line."""

import json
import struct
import zlib
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import h5py
import numpy as np
import pytest
import torch
from libero_files import CAMERA_NUMBERS, write_demo

from vla.batches import MAX_INSTRUCTION, check_instruction
from vla.conf.datasets import LiberoConfig
from vla.data.datasets.hdf5_index import scan
from vla.data.errors import BadEpisode
from vla.errors import UserError
from vla.models.anomaly.published import read_published
from vla.models.weights.files import read_state_dict
from vla.models.weights.prismatic import read_prismatic
from vla.serving.vlm import read_picture


@pytest.fixture
def file(tmp_path):
    """A file with one demonstration, open for writing; `read` closes and scans it."""
    (tmp_path / "data").mkdir()
    with h5py.File(tmp_path / "secret.hdf5", "w") as other:
        write_demo(other.create_group("data"), "demo_0", 5)
    with h5py.File(tmp_path / "data/put_it_away_demo.hdf5", "w") as opened:
        write_demo(opened.create_group("data"), "demo_0", 5)
        yield opened


def refused(file: h5py.File) -> str:
    path = file.filename
    file.close()
    with pytest.raises(BadEpisode) as caught:
        scan(LiberoConfig(root=Path(path).parent), tuple(CAMERA_NUMBERS), True)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "place", ["data", "data/demo_0", "data/demo_0/actions", "data/demo_0/obs", "data/demo_0/obs/ee_pos"]
)
def test_links_to_other_files_are_not_followed(file, place):
    del file[place]
    file[place] = h5py.ExternalLink("../secret.hdf5", f"/{place}")
    assert ("no group 'data'" if place == "data" else "is a link to another file") in refused(file)


def test_data_in_other_files_is_not_read(file, tmp_path):
    (tmp_path / "raw").write_bytes(bytes(5 * 7 * 8))
    demo = file["data/demo_0"]
    del demo["actions"]
    demo.create_dataset("actions", (5, 7), "f8", external=[(str(tmp_path / "raw"), 0, 5 * 7 * 8)])
    assert "'actions' lies in another file" in refused(file)


def test_virtual_data_is_not_read(file, tmp_path):
    layout = h5py.VirtualLayout((5, 3), "f8")
    layout[:] = h5py.VirtualSource(tmp_path / "secret.hdf5", "data/demo_0/obs/ee_pos", (5, 3))
    demo = file["data/demo_0"]
    del demo["obs/ee_pos"]
    demo.create_virtual_dataset("obs/ee_pos", layout)
    assert "'obs/ee_pos' lies in another file" in refused(file)


@pytest.mark.parametrize(
    "name, shape, message",
    [
        ("actions", (2 * 10**6, 7), "more than 1000000"),
        ("actions", (10**12, 7), "more than 1000000"),
        ("states", (10**5, 10**5), "GiB, more than 1"),
        ("obs/agentview_rgb", (5, 10**5, 10**5, 3), "images of 100000 x 100000 pixels"),
    ],
)
def test_sizes_that_nobody_stored(file, name, shape, message):
    """A few bytes on the disk: no chunk was ever written."""
    demo = file["data/demo_0"]
    if name in demo:
        del demo[name]
    kind = "u1" if name.endswith("rgb") else "f8"
    demo.create_dataset(name, shape, kind, chunks=tuple(min(side, 100) for side in shape))
    assert message in refused(file)


@pytest.mark.parametrize("chunks", [(60_000, 128, 128, 3), (60_000, 1, 1, 3)], ids=["a block", "blocks side by side"])
def test_pictures_that_unfold(file, chunks):
    """Single pictures are small, but what they are compressed with is 3 GB, of as many megabytes or none."""
    obs = file["data/demo_0/obs"]
    del obs["agentview_rgb"]
    obs.create_dataset("agentview_rgb", (60_000, 128, 128, 3), "u1", chunks=chunks, compression="gzip")
    assert "'obs/agentview_rgb' is stored in blocks of 2.7 GiB, more than 1" in refused(file)


@pytest.mark.parametrize("read", [read_state_dict, read_published, read_prismatic])
def test_weights_that_unfold(tmp_path, read):
    """PyTorch reads compressed entries, too, without asking how large they will be."""
    torch.save({"model": {"a": torch.zeros(1000)}, "state_dict": {"a": torch.zeros(1000)}}, tmp_path / "plain.pt")
    with ZipFile(tmp_path / "plain.pt") as plain, ZipFile(tmp_path / "bomb.pt", "w", ZIP_DEFLATED) as bomb:
        for member in plain.infolist():
            bomb.writestr(member.filename, plain.read(member))
    assert torch.load(tmp_path / "bomb.pt", weights_only=True)["model"]["a"].shape == (1000,)
    with pytest.raises(ValueError, match=r"is no file as PyTorch writes it: [\d,]+ bytes that would become") as caught:
        read(tmp_path / "bomb.pt")
    assert "\n" not in str(caught.value)


def test_instruction_of_a_megabyte(file):
    file["data"].attrs.create("x", 0)  # attributes are limited to 64 kB, unless stored densely
    with pytest.raises(UserError, match=r"instruction: must be at most 4096 characters, got 1048576"):
        check_instruction("x" * 2**20)
    assert check_instruction("x" * MAX_INSTRUCTION)
    text = json.dumps({"language_instruction": "put it away " * 1000})
    file["data"].attrs["problem_info"] = text
    assert "instruction: must be at most 4096 characters" in refused(file)


def test_image_bomb(tmp_path):
    """A PNG of a kilobyte that would unfold to 30 GB."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    with pytest.raises(UserError, match="decompression bomb"):
        read_picture(path)


def test_constant_dimensions_and_empty_demonstrations(file):
    """Nothing to learn from is said, not divided by."""
    demo = file["data/demo_0"]
    del demo["actions"]
    demo["actions"] = np.zeros((0, 7))
    assert "has no steps" in refused(file)
