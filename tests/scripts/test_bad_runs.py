"""Runs that can't go well end in one line that names the field or the file, with exit code 2 and no traceback."""

import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from vla.conf import cli
from vla.conf.pretrain import PretrainConfig

ROOT = Path(__file__).resolve().parents[2]
TASK = "put_the_bowl_on_the_plate"
SIZE = 8  # of the pictures
LENGTH = 6  # steps of every episode
TINY = (
    "--model.type vggt-tiny --dataset.type libero-goal --device cpu --trackers jsonl --report false "
    "--loader.num_workers 0 --model.align.global_batch_size 4 --model.align.per_device_batch_size 4 "
    "--model.align.max_steps 1 --evaluation.max_batches 1"
).split()


def write_data(folder: Path, instruction: str = "pick the bowl", name: str = f"{TASK}_demo", **options) -> Path:
    """A file of three episodes in LIBERO's layout."""
    folder.mkdir(parents=True, exist_ok=True)
    path, random = folder / f"{name}.hdf5", np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["problem_info"] = json.dumps({"language_instruction": instruction})
        for number in range(3):
            demo = data.create_group(f"demo_{number}")
            demo["actions"] = random.uniform(-0.9, 0.9, (LENGTH, 7))
            for key, size in {"ee_pos": 3, "ee_ori": 3, "gripper_states": 2, "joint_states": 7}.items():
                demo[f"obs/{key}"] = random.normal(size=(LENGTH, size))
            for camera in ("agentview", "eye_in_hand"):
                images = random.integers(0, 256, (LENGTH, SIZE, SIZE, 3), dtype=np.uint8)
                demo.create_dataset(f"obs/{camera}_rgb", data=images, **options)
    return path


def edited(folder: Path, damage: Callable[[h5py.Group], None]) -> Path:
    with h5py.File(write_data(folder), "r+") as file:
        damage(file["data/demo_1"])
    return folder


def no_actions(demo: h5py.Group) -> None:
    del demo["actions"]


def narrow_actions(demo: h5py.Group) -> None:
    del demo["actions"]
    demo["actions"] = np.zeros((LENGTH, 6))


def nan_action(demo: h5py.Group) -> None:
    demo["actions"][2, 3] = np.nan


def fewer_images(demo: h5py.Group) -> None:
    del demo["obs/agentview_rgb"]
    demo["obs/agentview_rgb"] = np.zeros((LENGTH - 1, SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def main() -> Callable[[PretrainConfig], int]:
    """That of the script."""
    return runpy.run_path(str(ROOT / "scripts/pretrain.py"))["main"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good dataset. Don't change it."""
    return write_data(tmp_path_factory.mktemp("data")).parent


@pytest.fixture(scope="module")
def good_run(main, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of one step. Don't change it."""
    folder = tmp_path_factory.mktemp("runs")
    argv = [*TINY, "--dataset.root", str(data), "--run_root_dir", str(folder), "--run_id", "good"]
    assert cli.run(PretrainConfig, main, argv) == 0
    return folder / "good"


@pytest.fixture
def fails(main, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> Callable[..., str]:
    """Runs with some flags, the good data unless they name other; gives what follows `error: ` on its one line."""

    def run(*flags: str | Path) -> str:
        capsys.readouterr()
        argv = [*TINY, "--dataset.root", str(data), "--run_root_dir", str(tmp_path / "runs"), *map(str, flags)]
        code = cli.run(PretrainConfig, main, argv)
        err = capsys.readouterr().err
        assert code == 2 and "Traceback" not in err, err
        before, found, line = err.partition("error: ")
        assert found and (not before or before.endswith("\n")), err
        assert line.endswith("\n") and line.count("\n") == 1, err
        return line.rstrip("\n")

    return run


# --- data ---


def test_root_without_files(fails, tmp_path):
    assert fails("--dataset.root", tmp_path / "no") == f"dataset.root: no such folder: {tmp_path / 'no'}"
    assert fails("--dataset.root", tmp_path) == f"dataset.root: no *.hdf5 files in {tmp_path}"


def test_truncated_file(fails, tmp_path):
    path = write_data(tmp_path / "data")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert fails("--dataset.root", path.parent).startswith(f"{path}: can't be opened as HDF5: ")


def test_file_that_is_not_hdf5(fails, tmp_path):
    path = tmp_path / "x_demo.hdf5"
    path.write_text("hello")
    assert fails("--dataset.root", tmp_path).startswith(f"{path}: can't be opened as HDF5: ")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (no_actions, "no 'actions'"),
        (narrow_actions, f"'actions' must be [T, 7], got [{LENGTH}, 6]"),
        (nan_action, "actions contain NaN at step 2"),
        (fewer_images, f"'obs/agentview_rgb' has {LENGTH - 1} steps, actions have {LENGTH}"),
    ],
)
def test_bad_episode(fails, tmp_path, damage, reason):
    folder = edited(tmp_path / "data", damage)
    assert fails("--dataset.root", folder) == f"{folder / TASK}_demo.hdf5: demo_1: {reason}"


def test_no_instruction(fails, tmp_path):
    path = write_data(tmp_path / "data", instruction="", name="_demo")
    assert fails("--dataset.root", path.parent).startswith(f"{path}: no instruction: ")


def test_no_such_camera(fails, data):
    line = fails("--model.processor.cameras", "agentview,nope")
    assert line.startswith(f"{data / TASK}_demo.hdf5: demo_0: no camera 'nope' ('obs/nope_rgb'); cameras there: ")


def test_no_such_task(fails):
    assert fails("--dataset.tasks", "put_the_bowl_on_the_plat").startswith(
        "dataset.tasks: no file for 'put_the_bowl_on_the_plat' in "
    )


def test_too_many_held_out(fails):
    assert fails("--dataset.validation_episodes", "3") == (
        f"dataset.validation_episodes: must leave something to train on, got 3 of the 3 usable episodes of '{TASK}'"
    )


@pytest.mark.parametrize("workers", ["0", "1"])
def test_pictures_damaged_in_the_middle(fails, tmp_path, workers):
    path = write_data(tmp_path / "data", compression="gzip", chunks=(2, SIZE, SIZE, 3), fletcher32=True)
    with h5py.File(path, "r") as file:
        chunks = [
            demo["obs/agentview_rgb"].id.get_chunk_info(number)
            for demo in file["data"].values()
            for number in range(LENGTH // 2)
        ]
    with path.open("r+b") as raw:
        for chunk in chunks:
            raw.seek(chunk.byte_offset + chunk.size // 3)
            raw.write(b"\x00" * (chunk.size // 3))
    line = fails("--dataset.root", path.parent, "--loader.num_workers", workers)
    assert line.startswith(f"{path}: demo_") and ": agentview frames " in line and " can't be read: " in line


@pytest.mark.parametrize("workers", ["0", "1"])
def test_file_that_is_gone_when_it_is_read(fails, tmp_path, monkeypatch, workers):
    """What no dataset foresees names the sample and the cause."""
    from vla.data.datasets.libero import LiberoDataset

    monkeypatch.setattr(LiberoDataset, "__getitem__", lambda self, index: (tmp_path / "gone").read_bytes())
    line = fails("--loader.num_workers", workers)
    assert line.startswith(f"{TASK}_demo.hdf5 demo_") and ": FileNotFoundError: [Errno 2] " in line


# --- checkpoints ---


def test_resume_of_a_folder_without_checkpoints(fails, tmp_path):
    line = fails("--resume", tmp_path)
    assert line.startswith(f"resume: no complete checkpoint in {tmp_path / 'checkpoints'}")


@pytest.mark.parametrize("damage", ["model/fusion.safetensors", "manifest.json"])
def test_resume_of_a_torn_checkpoint(fails, good_run, tmp_path, damage):
    folder = tmp_path / "step-000001"
    shutil.copytree(good_run / "checkpoints/step-000001", folder)
    content = (folder / damage).read_bytes()
    (folder / damage).write_bytes(content[: len(content) // 2])
    line = fails("--resume", folder)
    assert line.startswith(f"resume: {folder}") and ("is missing or cut off" in line or "can't be read" in line)


def test_resume_of_a_checkpoint_with_damaged_state(fails, good_run, tmp_path):
    """Of the right size, but not what it should hold."""
    folder = tmp_path / "step-000001"
    shutil.copytree(good_run / "checkpoints/step-000001", folder)
    for name in ("model/fusion.safetensors", "trainer/state.json"):
        size = (folder / name).stat().st_size
        (folder / name).write_bytes(b"\x00" * size)
        assert f"{folder}: {name} was altered or damaged after it was written" in fails("--resume", folder)
        shutil.copy(good_run / "checkpoints/step-000001" / name, folder / name)


def test_resume_with_another_model(fails, good_run):
    line = fails("--resume", good_run, "--model.fusion.dim", "128")
    start = f"resume: {good_run / 'checkpoints/step-000001'}: fusion."
    assert line.startswith(start) and " in the checkpoint, " in line


def test_resume_with_another_optimizer(fails, good_run):
    line = fails("--resume", good_run, "--model.align.optimizer.name", "sgd")
    assert line.startswith("resume: the checkpoint's optimizer is adamw over ")


def test_resume_in_another_stage(fails, good_run):
    line = fails("--resume", good_run, "--stage", "finetune", "--model.finetune.per_device_batch_size", "4")
    assert line.startswith("resume: ")


def test_pretrained_checkpoint_nowhere(fails, tmp_path):
    line = fails("--pretrained_checkpoint", tmp_path / "no")
    assert line.startswith(f"pretrained_checkpoint: no complete checkpoint in {tmp_path / 'no'}")


def test_pretrained_checkpoint_of_another_size(fails, good_run):
    line = fails("--pretrained_checkpoint", good_run, "--model.fusion.dim", "128")
    start = f"pretrained_checkpoint: {good_run / 'checkpoints/step-000001'}: fusion."
    assert line.startswith(start) and " in the checkpoint, " in line


def test_run_that_is_already_there(fails, good_run):
    before = sorted(path for path in good_run.rglob("*") if path.name != "console.log")
    line = fails("--run_root_dir", good_run.parent, "--run_id", good_run.name)
    assert line == f"run_id: {good_run} already holds checkpoints; pass --resume auto or another --run_id"
    assert before == sorted(path for path in good_run.rglob("*") if path.name != "console.log")


# --- the rest ---


def test_tracker_that_is_not_installed(fails, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert fails("--trackers", "wandb") == "trackers: wandb is not installed; pip install .[wandb]"


def test_global_batch_that_does_not_divide(fails):
    line = fails("--model.align.global_batch_size", "6")
    assert line == "model.align.global_batch_size: must be a multiple of per_device_batch_size (4), got 6"


def test_global_batch_of_too_many_processes(fails):
    line = fails("--dry_run", "true", "--world_size", "3")
    assert line.startswith("model.align.global_batch_size: ")


def test_global_batch_of_too_many_processes_in_training(data):
    from vla.data.materialize import get_datasets
    from vla.overwatch.distributed import DistState
    from vla.training.data_feed import DataFeed
    from vla.training.metrics import StepClock

    config = cli.parse(PretrainConfig, [*TINY, "--dataset.root", str(data)])
    with pytest.raises(
        cli.UserError, match=r"^model\.align\.global_batch_size: must be a multiple of .* \(4 x 3\), got 4"
    ):
        DataFeed(get_datasets(config.dataset, config.model), config, DistState(rank=0, world_size=3), StepClock())


def test_language_model_folder_that_is_none(fails, tmp_path):
    folder = tmp_path / "llm"
    folder.mkdir()
    flags = ("--model.llm.weights", folder, "--model.pretrained", "true")
    assert fails(*flags).startswith(f"model.llm.weights: '{folder}' is a folder without weights (")
    (folder / "model.safetensors").write_text("hello")
    assert fails(*flags).startswith("model.llm.weights: can't be loaded: ")
    (folder / "config.json").write_text("{broken")
    assert fails(*flags).startswith("model.llm.weights: can't be loaded: ")


def test_tokenizer_folder_that_is_none(fails, tmp_path):
    line = fails("--model.llm.tokenizer", tmp_path)
    assert line.startswith(f"model.llm.tokenizer: no tokenizer in '{tmp_path}' (")
