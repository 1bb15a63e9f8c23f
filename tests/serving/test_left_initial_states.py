"""Successes of some initial states are learned from; the others are left to be evaluated later."""

import json

import pytest
from fake_pool import FakePool
from test_watched_evaluation import evaluate

from vla.conf.watching import WatchFramesConfig
from vla.errors import UserError
from vla.serving.watching import again, frames


def test_initial_states_before_the_first_are_left(tmp_path, monkeypatch):
    evaluate(tmp_path, episodes=6, tasks=(0, 2))
    monkeypatch.setattr(again, "SimulatorPool", lambda workers, python: FakePool(tmp_path / "log", workers))
    folder, output = tmp_path / "evaluation" / "libero_object", tmp_path / "frames"
    config = WatchFramesConfig(evaluation=folder, output=output, every=4, held_out=0.5, first_init=2)
    assert frames.write_dataset(config) == 0
    lines = [json.loads(line) for s in ("train", "test") for line in (output / f"{s}.json").read_text().splitlines()]
    assert {line["episode"] for line in lines} == {f"task_{t}/init-0{i}-seed-0" for t in (0, 2) for i in (2, 4)}
    none_left = WatchFramesConfig(evaluation=folder, output=tmp_path / "none", first_init=5)
    with pytest.raises(UserError, match="evaluation: none of the chosen episodes in .* succeeded"):
        frames.write_dataset(none_left)


def test_order_of_the_pictures_does_not_depend_on_who_was_done_first(tmp_path, monkeypatch):
    class Reversed(FakePool):
        def run(self, jobs, act, on_done):
            super().run(jobs[::-1], act, on_done)

    evaluate(tmp_path, episodes=6)
    written = []
    for pool in (FakePool, Reversed):
        monkeypatch.setattr(again, "SimulatorPool", lambda workers, python, pool=pool: pool(tmp_path / "log", workers))
        output = tmp_path / pool.__name__
        frames.write_dataset(
            WatchFramesConfig(evaluation=tmp_path / "evaluation/libero_object", output=output, held_out=0.5)
        )
        written.append([(output / f"{split}.json").read_bytes() for split in ("train", "test")])
    assert written[0] == written[1]


def test_demonstrations_have_no_initial_states(tmp_path):
    with pytest.raises(ValueError, match="first_init: needs --evaluation, got 3"):
        WatchFramesConfig(demonstrations=tmp_path, first_init=3)
