"""An evaluation with a watcher and with faults, in a simulator that counts: results, resuming, stopping, pictures."""

import json

import numpy as np
import pytest
from fake_pool import FakePool
from PIL import Image

from vla.conf.closed_loop import ClosedLoopConfig
from vla.conf.watching import WatchFramesConfig
from vla.errors import UserError
from vla.serving.closed_loop import ClosedLoop
from vla.serving.evaluation_folder import output_folder
from vla.serving.policy import ZeroPolicy
from vla.serving.watching import again, frames
from vla.serving.watching.pictures import choose_frames
from vla.serving.watching.threshold import Threshold
from vla.serving.watching.watcher import Verdict, Watcher

THRESHOLD = Threshold(50.0, 0.1, "episode", 9, 90, 4, "agentview", 16, "fake")
BLUR = ("blur:8",)  # of 16 pixels: wide enough to be seen


class CornerWatcher(Watcher):
    """Finds frames strange whose corner, white in the stand-in's frames, is dark; it is upright, so on top."""

    def __init__(self, threshold=THRESHOLD):
        self.threshold, self.fingerprint, self.name, self.looks = threshold, "fake", "corner", 0

    def look(self, frames):
        self.looks += len(frames)
        scores = [255.0 - float(frame[0, -1, 0]) for frame in frames]
        return [Verdict(score, score > self.threshold.value) for score in scores]


class EvenPolicy(ZeroPolicy):
    """Succeeds from even initial states, after 12 steps."""

    def act(self, inputs):
        actions = super().act(inputs)
        for row, item in zip(actions, inputs, strict=True):
            row[:, -1] = 1.0 if item.episode.init_id % 2 == 0 else -1.0
        return actions


def evaluate(tmp_path, watcher=None, pool_class=FakePool, **options):
    values = {"policy": "zero", "horizon": 20, "image_size": 16, "episodes": 4, "execute_steps": 4, "videos": 0}
    values |= {"tasks": (0,), "fault_onset": (5, 5)} | options
    if watcher is not None:
        values["watcher"] = tmp_path
    config = ClosedLoopConfig(**values)
    folder = tmp_path / "evaluation" / "libero_object"
    folder.mkdir(parents=True, exist_ok=True)
    with pool_class(folder / "log") as pool:
        loop = ClosedLoop(config, None, folder, pool, watcher)
        loop.policy = EvenPolicy()
        if loop.watched is not None:
            loop.watched.policy = loop.policy
        code = loop.run()
    return code, json.loads((folder / "results.json").read_text()), pool


def test_results_say_how_each_fault_was_noticed(tmp_path):
    code, results, _ = evaluate(tmp_path, CornerWatcher(), faults=(*BLUR, "gripper_stuck"))
    assert code == 0 and results["overall"]["successes"] == 2
    watching = results["watching"]
    assert watching["watcher"]["threshold"]["value"] == 50.0 and watching["action"] == "observe"
    # Looked at before the steps 0, 4, 8 of a success and up to 16 of a failure.
    alarms = {"episodes": 4, "frames": 16, "episode_share": 0.0, "frame_share": 0.0}
    assert watching["normal"]["false_alarms"]["all"] == alarms
    assert watching["normal"]["false_alarms"]["successes"] == {**alarms, "episodes": 2, "frames": 6}
    blur, stuck = watching["faults"]
    assert (blur["fault"], blur["success"]["successes"], blur["stopped"]) == ("blur:8", 2, 0)
    assert blur["detection"] == {
        "episodes": 4, "frames": 8, "frame_auroc": 1.0, "episode_auroc": 1.0, "missed_share": 0.0, "early_share": 0.0,
        "median_delay": 3.0,
    }  # fmt: skip
    assert [row["first_alarm"] for row in blur["episodes"]] == [8] * 4
    assert (stuck["detection"]["frame_auroc"], stuck["detection"]["missed_share"]) == (0.5, 1.0)
    page = (tmp_path / "evaluation" / "libero_object" / "summary.md").read_text()
    assert "| blur:8 | 2/4 | 4 | 1.000 | 1.000 | 3 | 0.0% | 0.0% | 0 |" in page
    assert "| gripper_stuck | 2/4 | 4 | 0.500 | 0.500 | – | 100.0% | 0.0% | 0 |" in page
    assert "alarms in 0.0% of 4 episodes and in 0.0% of 16 frames" in page


def test_every_look_is_written_down(tmp_path):
    evaluate(tmp_path, CornerWatcher(), faults=BLUR, episodes=1)
    lines = (tmp_path / "evaluation" / "libero_object" / "episodes.jsonl").read_text().splitlines()
    normal, blurred = map(json.loads, lines)
    assert normal["watched"] == [[0, 0.0], [4, 0.0], [8, 0.0]] and "onset" not in normal
    assert blurred["onset"] == 5 and [step for step, score in blurred["watched"] if score > 50] == [8]


def test_stop_ends_an_episode_and_slow_does_not(tmp_path):
    _, results, _ = evaluate(tmp_path / "stop", CornerWatcher(), faults=BLUR, watcher_action="stop")
    blur = results["watching"]["faults"][0]
    assert (blur["success"]["successes"], blur["stopped"], results["overall"]["successes"]) == (0, 4, 2)
    assert {row["steps"] for row in blur["episodes"]} == {8}
    _, results, _ = evaluate(tmp_path / "slow", CornerWatcher(), faults=BLUR, watcher_action="slow")
    assert results["watching"]["faults"][0]["success"]["successes"] == 2


@pytest.mark.parametrize("after", [2, 5])
def test_interrupted_evaluation_goes_on_where_it_stopped(tmp_path, after):
    class Interrupted(FakePool):
        done = 0

        def run(self, jobs, act, on_done):
            def count(outcome):
                on_done(outcome)
                self.done += 1
                if self.done == after:
                    raise KeyboardInterrupt

            super().run(jobs, act, count)

    whole = evaluate(tmp_path / "whole", CornerWatcher(), faults=BLUR)[1]
    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path / "parts", CornerWatcher(), Interrupted, faults=BLUR)
    _, parts, pool = evaluate(tmp_path / "parts", CornerWatcher(), faults=BLUR)
    assert len(pool.played) == 8 - after
    assert parts["watching"] == whole["watching"]
    watcher = CornerWatcher()
    _, again_, pool = evaluate(tmp_path / "parts", watcher, faults=BLUR)
    assert pool.played == [] and watcher.looks == 0 and again_["watching"] == whole["watching"]
    with pytest.raises(UserError, match="faults: .* holds results with blur:8, too; name those, too, name another"):
        evaluate(tmp_path / "parts", watcher, faults=("blur:4",))
    (tmp_path / "parts/evaluation/libero_object/results.json").unlink()
    _, _, pool = evaluate(tmp_path / "parts", watcher, faults=("blur:4",))
    assert len(pool.played) == 4  # another strength; the normal ones are there


def test_threshold_alone_needs_no_new_episodes_unless_it_acts(tmp_path):
    evaluate(tmp_path, CornerWatcher(), faults=BLUR)
    strict = CornerWatcher(Threshold(200.0, 0.05, "episode", 19, 90, 4, "agentview", 16, "fake"))
    _, results, pool = evaluate(tmp_path, strict, faults=BLUR)
    assert pool.played == [] and results["watching"]["faults"][0]["detection"]["missed_share"] == 1.0
    (tmp_path / "evaluation/libero_object/results.json").unlink()
    _, _, pool = evaluate(tmp_path, strict, faults=BLUR, watcher_action="stop")
    assert len(pool.played) == 8


def test_without_a_watcher_nothing_changes(tmp_path):
    _, plain, _ = evaluate(tmp_path / "plain")
    _, watched, _ = evaluate(tmp_path / "watched", CornerWatcher())
    assert "watching" not in plain
    line = json.loads((tmp_path / "plain/evaluation/libero_object/episodes.jsonl").read_text().splitlines()[0])
    assert not {"watched", "onset"} & set(line)
    for left, right in zip(plain["episodes"], watched["episodes"], strict=True):
        assert left["states"] == right["states"] and left["status"] == right["status"]
    assert plain["variant"] != watched["variant"] and plain["protocol_hash"] == watched["protocol_hash"]
    options = {"policy": "zero", "suite": "libero-object"}
    names = [output_folder(ClosedLoopConfig(**options, watcher=path), None).name for path in (None, tmp_path)]
    assert names == ["libero_object", "libero_object-watched"]
    stopped = output_folder(ClosedLoopConfig(**options, watcher=tmp_path, watcher_action="stop"), None)
    assert stopped.name == "libero_object-watched-watcher_action-stop"


def test_episodes_are_drawn_with_their_scores(tmp_path):
    _, results, _ = evaluate(tmp_path, CornerWatcher(), faults=BLUR, videos=1)
    folder = tmp_path / "evaluation" / "libero_object"
    assert results["watching"]["normal"]["picture"] == "watching/nothing.png"
    assert results["watching"]["faults"][0]["picture"] == "watching/blur-8.png"
    for name in ("nothing", "blur-8"):
        with Image.open(folder / "watching" / f"{name}.png") as picture:
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        assert pixels.shape[0] > 300 and (np.ptp(pixels, axis=(0, 1)) > 150).all()


def test_frames_to_draw_show_the_onset():
    assert choose_frames(3, None) == [0, 1, 2] and choose_frames(1, 0) == [0]
    assert choose_frames(36, 11)[0] == 0 and 11 in choose_frames(36, 11) and len(choose_frames(36, 11)) == 7


def test_successes_become_pictures_to_learn_from(tmp_path, monkeypatch):
    evaluate(tmp_path, episodes=6, tasks=(0, 2))
    monkeypatch.setattr(again, "SimulatorPool", lambda workers, python: FakePool(tmp_path / "log", workers))
    evaluation, output = tmp_path / "evaluation" / "libero_object", tmp_path / "frames"
    assert frames.write_dataset(WatchFramesConfig(evaluation=evaluation, output=output, every=4, held_out=0.5)) == 0
    lines = [json.loads(line) for s in ("train", "test") for line in (output / f"{s}.json").read_text().splitlines()]
    assert {line["episode"] for line in lines} == {f"task_{t}/init-0{i}-seed-0" for t in (0, 2) for i in (0, 2, 4)}
    assert sorted({line["step"] for line in lines}) == [0, 4, 8] and len(lines) == 18
    with Image.open(output / "task_2/train/good/init-04-seed-0-0008.png") as image:
        picture = np.asarray(image)
    assert picture.shape == (16, 16, 3) and picture[5, 5, 0] == 8 and picture[0, -1, 0] == 255  # upright
    assert json.loads((output / "manifest.json").read_text())["image_size"] == 16


def test_mistakes_are_one_line(tmp_path):
    with pytest.raises(UserError, match="watcher: was calibrated on 16-pixel frames of agentview, .* 32-pixel ones"):
        evaluate(tmp_path, CornerWatcher(), image_size=32)
    with pytest.raises(ValueError, match=r"faults: needs --watcher RUN, .* got \('blur:8',\)"):
        evaluate(tmp_path, faults=BLUR)
    with pytest.raises(ValueError, match="watcher_action: must be one of observe, slow, stop, got 'halt'"):
        evaluate(tmp_path, CornerWatcher(), watcher_action="halt")
    with pytest.raises(ValueError, match="watcher_action: needs --watcher RUN, whose alarms it acts on, got 'stop'"):
        ClosedLoopConfig(policy="zero", watcher_action="stop")
    with pytest.raises(ValueError, match="fault_onset: must be two steps"):
        evaluate(tmp_path, CornerWatcher(), fault_onset=(9, 5))
    with pytest.raises(ValueError, match="policy: must be .*: the expert looks at no frames"):
        ClosedLoopConfig(policy="expert", watcher=tmp_path)
    with pytest.raises(UserError, match="holds no results.json of an evaluation"):
        frames.write_dataset(WatchFramesConfig(evaluation=tmp_path, output=tmp_path / "frames"))
