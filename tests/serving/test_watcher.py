"""The watcher: data, training, threshold, and what it says about a frame."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "distributed"))
from uniad_runs import uniad_config

from vla.conf.datasets import MVTecADConfig
from vla.conf.models.uniad import UniADTinyConfig
from vla.conf.pretrain import EvaluationConfig
from vla.conf.strategies import DDPConfig
from vla.conf.watching import CalibrateConfig, WatchFramesConfig
from vla.data.anomaly.index import read_index
from vla.data.anomaly.processor import AnomalyProcessor
from vla.errors import UserError
from vla.models.materialize import get_model
from vla.overwatch.distributed import DistState
from vla.serving.watching import calibration
from vla.serving.watching.frames import draw_held_out, write_dataset
from vla.serving.watching.threshold import FILE, Threshold, Usual, read_threshold, write_threshold
from vla.serving.watching.watched import load_watcher
from vla.serving.watching.watcher import Verdict, Watcher, newest_frame, restrain
from vla.training import pretrain

MINI = Path(__file__).resolve().parents[2] / "experiments" / "data" / "libero-mini"
TASKS = ("pick_up_the_milk_and_place_it_in_the_basket", "pick_up_the_bbq_sauce_and_place_it_in_the_basket")
THRESHOLD = Threshold(0.5, 0.25, "episode", 3, 15, 30, "agentview", 128, "weights")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Frames of six demonstrations, three of which are held out."""
    folder = tmp_path_factory.mktemp("watch") / "data"
    assert write_dataset(frames_config(folder)) == 0
    return folder


def frames_config(folder: Path, **values) -> WatchFramesConfig:
    return WatchFramesConfig(**{"demonstrations": MINI, "output": folder, "tasks": TASKS, "every": 30, "held_out": 0.5,
                                **values})  # fmt: skip


@pytest.fixture(scope="module")
def run(data: Path) -> Path:
    """A detector that was trained on them for a moment."""
    config = uniad_config(data.parent, "watcher", DDPConfig())
    evaluation = EvaluationConfig(every_epochs=1, metric="eval/loss", mode="min")
    assert pretrain.train(replace(config, evaluation=evaluation), DistState()).global_step > 0
    return config.run_dir


def lines_of(folder: Path, split: str) -> list[dict]:
    return [json.loads(line) for line in (folder / f"{split}.json").read_text().splitlines()]


# --- data ---


def test_frames_are_those_of_the_files_upright_and_split_by_episode(data: Path) -> None:
    train, test = (lines_of(data, split) for split in ("train", "test"))
    episodes = [{line["episode"] for line in lines} for lines in (train, test)]
    assert [len(found) for found in episodes] == [3, 3] and not episodes[0] & episodes[1]
    line = test[-1]
    task, demo = line["episode"].split("/")
    with h5py.File(MINI / f"{task}_demo.hdf5") as file:
        stored = file[f"data/{demo}/obs/agentview_rgb"][line["step"]]
    with Image.open(data / line["filename"]) as image:
        assert np.array_equal(np.asarray(image), stored[::-1])
    config = MVTecADConfig(root=data)
    pictures = [read_index(config, split) for split in ("train", "test")]
    assert [len(found) for found in pictures] == [len(train), len(test)]
    assert {picture.label for found in pictures for picture in found} == {0}
    assert json.loads((data / "manifest.json").read_text()) == {
        "format": 1, "camera": "agentview", "image_size": 128, "every": 30,
    }  # fmt: skip


def test_same_command_writes_the_same_and_another_is_refused(data: Path) -> None:
    before = {split: (data / f"{split}.json").read_bytes() for split in ("train", "test")}
    write_dataset(frames_config(data))
    assert before == {split: (data / f"{split}.json").read_bytes() for split in ("train", "test")}
    with pytest.raises(UserError, match="output: "):
        write_dataset(frames_config(data, every=10))


def test_what_is_held_out_does_not_depend_on_the_order() -> None:
    keys = [f"task/demo_{i}" for i in range(40)]
    held_out = draw_held_out(keys, 0.25, 7)
    assert len(held_out) == 10 and held_out == draw_held_out(keys[::-1], 0.25, 7) != draw_held_out(keys, 0.25, 8)
    assert len(draw_held_out(keys[:2], 0.1, 7)) == 1 and draw_held_out(keys, 1.0, 7) == set(keys)


def test_folders_that_are_none_are_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="demonstrations: no such folder"):
        write_dataset(frames_config(tmp_path, demonstrations=tmp_path / "nothing"))
    with pytest.raises(ValueError, match="demonstrations: must name a folder, or else --evaluation one, got None"):
        WatchFramesConfig()


# --- threshold ---


def test_calibration_gives_the_run_its_threshold(run: Path, data: Path, capsys: pytest.CaptureFixture) -> None:
    options = {"checkpoint": run, "device": "cpu"}
    assert Watcher.load(run).threshold is None
    with pytest.raises(UserError, match="has no threshold yet; python scripts/evaluate.py .* --false_alarm_rate"):
        load_watcher(type("Config", (), {"watcher": run}), "cpu")
    with pytest.raises(UserError, match="0.1 needs at least 9 normal episodes that were held out, got 3"):
        calibration.run(CalibrateConfig(**options, false_alarm_rate=0.1))
    assert calibration.run(CalibrateConfig(**options, false_alarm_rate=0.25)) == 0
    assert "from 12 frames of 3 normal episodes" in capsys.readouterr().out
    watcher = Watcher.load(run)
    assert watcher.threshold is not None and watcher.threshold.fingerprint == watcher.fingerprint
    # The highest frame of all: of 3 episodes and the new one, a quarter may be above.
    config = MVTecADConfig(root=data)
    episodes = calibration.read_episodes(config, config.test_meta)[1]
    scores = [score for files in episodes.values() for score in calibration.score_episode(watcher, data, files)]
    assert watcher.threshold.value == max(scores)
    trained = calibration.read_episodes(config, config.train_meta)[1]
    assert watcher.usual == calibration.learn_usual(watcher, config, config) and len(trained) == 3
    assert np.array(watcher.usual.mean).shape == (8, 8)  # 64 pixels, cells of 8
    with Image.open(data / episodes[min(episodes)][0]) as image:
        frame = np.asarray(image)
    assert watcher.look([frame]) == [Verdict(scores[list(episodes).index(min(episodes)) * 4], False)]
    assert calibration.run(CalibrateConfig(**options, false_alarm_rate=0.5, per="frame")) == 0
    assert Watcher.load(run).threshold.value < max(scores)


def test_frames_are_not_measured_by_those_of_another_camera_or_size(run: Path, data: Path, tmp_path: Path) -> None:
    others = tmp_path / "others"
    shutil.copytree(data, others)
    (others / "train.json").write_text("")  # so that the run's own frames are what is usual
    for change, named in (({"image_size": 256}, "256-pixel frames of agentview"), ({"camera": "wrist"}, "of wrist")):
        about = json.loads((data / "manifest.json").read_text()) | change
        (others / "manifest.json").write_text(json.dumps(about))
        config = CalibrateConfig(run, false_alarm_rate=0.25, dataset_root=others, device="cpu")
        with pytest.raises(UserError, match=f"dataset_root: holds .*{named}; .* are 128-pixel ones of agentview"):
            calibration.run(config)


def test_a_frame_that_can_not_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    for file in ("a.png", "b.png"):
        with pytest.raises(UserError, match=f"{file}: can't be read: ") as raised:
            calibration.score_episode(SimpleNamespace(look=list), tmp_path, [file])
        assert "\n" not in str(raised.value)


def test_strange_is_what_is_not_usual_at_its_place() -> None:
    maps = np.zeros((4, 1, 2))
    maps[:, 0, 0] = 100  # never rebuilt, and usual
    maps[:, 0, 1] = [1, 3, 1, 3]
    usual = Usual.of(maps)
    assert usual.mean == ((100.0, 2.0),)
    assert usual.spread[0] == pytest.approx((0.05, 1.05))  # a tenth of the mean spread, one half, is added
    assert usual.scores(np.array([[[100.0, 2.0]], [[100.0, 4.1]], [[100.0, -0.1]]])) == pytest.approx([0, 2, 2])
    assert usual.scores(np.array([[[99.0, 2.0]]])) == pytest.approx([20])  # better than usual is unusual, too


def test_threshold_of_other_weights_or_frames_is_refused(tmp_path: Path) -> None:
    assert read_threshold(tmp_path, "weights") is None
    for threshold in (THRESHOLD, replace(THRESHOLD, usual=Usual(((0.1, 1 / 3),), ((1e-9, 2.0),)))):
        write_threshold(tmp_path, threshold)
        assert read_threshold(tmp_path, "weights") == threshold
    with pytest.raises(UserError, match=r"belongs to other weights \(weights, these are others\); calibrate again"):
        read_threshold(tmp_path, "others")
    THRESHOLD.check_frames("agentview", 128)
    THRESHOLD.check_frames("agentview", None)
    for frames in (("eye_in_hand", 128), ("agentview", 256)):
        with pytest.raises(UserError, match="was calibrated on 128-pixel frames of agentview"):
            THRESHOLD.check_frames(*frames)
    for text in ("{", "[]", '{"format": 1}', '{"format": 9}'):
        (tmp_path / FILE).write_text(text)
        with pytest.raises(UserError, match="not a watcher's threshold"):
            read_threshold(tmp_path, "weights")


def test_pictures_without_episodes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"camera": "agentview", "image_size": 64, "every": 8}')
    (tmp_path / "test.json").write_text('{"filename": "a/test/good/0.png", "label": 0}\n')
    with pytest.raises(UserError, match="holds no frames by episode; name what `data.py watch-frames` wrote"):
        calibration.read_episodes(MVTecADConfig(root=tmp_path), "test.json")


# --- frame in, score and verdict out ---


def test_it_scores_frames_as_its_own_run_prepares_pictures() -> None:
    config = UniADTinyConfig()
    processor, model = AnomalyProcessor(config.processor), get_model(config, seed=1).eval()
    watcher = Watcher(processor, model)
    frames = np.random.default_rng(0).integers(0, 255, (3, 48, 48, 3), dtype=np.uint8)
    together = watcher.look(list(frames))
    assert len({verdict.score for verdict in together}) == 3 and together[0].alarm is None
    assert [watcher.look([frame])[0] for frame in frames] == together  # to the last bit, whatever the company
    seen = []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].images))
    watcher.look([frames[2]])
    expected = processor.images(torch.from_numpy(processor.picture(Image.fromarray(frames[2]))))
    assert torch.equal(seen[0][0], expected)
    limit = sorted(verdict.score for verdict in together)[1]
    watcher.threshold = replace(THRESHOLD, value=limit)
    assert [verdict.alarm for verdict in watcher.look(list(frames))] == [v.score > limit for v in together]


def test_the_newest_frame_of_the_first_camera_upright() -> None:
    images = np.arange(4 * 2 * 2 * 3, dtype=np.uint8).reshape(4, 2, 2, 3)  # two moments of two cameras
    assert np.array_equal(newest_frame(images, 2), images[2][::-1])
    assert np.array_equal(newest_frame(images, 2, bottom_up=False), images[2])


def test_what_is_left_of_a_chunk() -> None:
    chunk = np.ones((8, 7))
    for alarm in (None, False):
        assert restrain(chunk, Verdict(0.0, alarm), "stop") is chunk
    alarm = Verdict(1.0, True)
    assert restrain(chunk, alarm, "observe") is chunk and restrain(chunk, alarm, "stop").shape == (0, 7)
    slow = restrain(chunk, alarm, "slow")
    assert (slow[:, :6] == 0.5).all() and (slow[:, 6] == 1).all() and (chunk == 1).all()


def test_other_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="checkpoint"):
        Watcher.load(tmp_path)
