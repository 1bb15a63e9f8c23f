"""Where an evaluation in the simulator is written, and that it doesn't write over another one's results."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_pool import FakePool

from vla.conf.closed_loop import ClosedLoopConfig
from vla.errors import UserError
from vla.overwatch.file_lock import lock_file
from vla.serving import closed_loop
from vla.serving.closed_loop import ClosedLoop
from vla.serving.evaluation_folder import LOCK, output_folder, unusual_options

RUN = Path("runs/a-run")
CHECKPOINT = RUN / "checkpoints" / "step-000100"


def folder(chunk=8, **options):
    conventions = SimpleNamespace(image_shape=(128, 128, 3))
    policy = SimpleNamespace(
        checkpoint=CHECKPOINT, chunk_size=chunk, processor=SimpleNamespace(conventions=conventions)
    )
    return output_folder(ClosedLoopConfig(**{"checkpoint": RUN, **options}), policy)


def test_usual_evaluation_has_its_suites_name():
    usual = {"execute_steps": 8, "wait_steps": 10, "horizon": 280, "seed": 0, "image_size": 128}
    for options in ({}, usual, {"tasks": (3,), "episodes": 50, "first_init": 20, "workers": 2, "videos": 0}):
        assert folder(**options) == RUN / "evaluation" / "libero_object"
    assert folder(chunk=4, execute_steps=4).name == "libero_object"
    assert folder(output_dir=Path("x"), suite="libero-10") == Path("x/evaluation/libero_10")


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"instructions": "shuffled"}, "libero_object-shuffled"),
        ({"execute_steps": 4}, "libero_object-execute_steps-4"),
        ({"execute_steps": 2, "ensemble": 0.1}, "libero_object-execute_steps-2-ensemble-0.1"),
        ({"ensemble": 0.0}, "libero_object-ensemble-0"),
        ({"horizon": 100, "seed": 3, "wait_steps": 0}, "libero_object-wait_steps-0-horizon-100-seed-3"),
        ({"checkpoint": CHECKPOINT}, "libero_object-checkpoint-step-000100"),
    ],
)
def test_what_is_not_as_usual_is_in_the_name(options, name):
    assert folder(**options) == RUN / "evaluation" / name


def test_baselines_have_their_own_usual_values():
    assert unusual_options(ClosedLoopConfig(policy="zero", image_size=256, execute_steps=8), None) == {}
    assert output_folder(ClosedLoopConfig(policy="zero", seed=1), None) == Path(
        "runs/zero/evaluation/libero_object-seed-1"
    )


def evaluate(tmp_path, **options):
    values = {"policy": "zero", "horizon": 3, "image_size": 16, "episodes": 2, "tasks": (0, 1), "videos": 0}
    with FakePool(tmp_path / "log") as pool:
        code = ClosedLoop(ClosedLoopConfig(**values | options), None, tmp_path, pool).run()
    assert code == 0
    return json.loads((tmp_path / "results.json").read_text()), len(pool.played)


def test_results_are_written_over_only_by_more_of_the_same(tmp_path):
    first, _ = evaluate(tmp_path)
    for options in ({"episodes": 1}, {"tasks": (1,)}, {"first_init": 1}):
        with pytest.raises(
            UserError, match=r"4 episodes \(zero, 0/4\), of which this evaluation leaves out 2; ask for"
        ):
            evaluate(tmp_path, **options)
    with pytest.raises(UserError, match=r"holds the results of another protocol or simulator \(zero, 0/4\); name an"):
        evaluate(tmp_path, execute_steps=4)
    with pytest.raises(UserError, match=r"holds the results of another policy or other weights \(zero, 0/4\); name"):
        evaluate(tmp_path, policy="random")
    again, played = evaluate(tmp_path)
    assert played == 0 and again["episodes"] == first["episodes"]
    more, played = evaluate(tmp_path, episodes=3)
    assert played == 2 and len(more["episodes"]) == 6
    (tmp_path / "results.json").write_text("{")  # of which nothing can be lost
    assert evaluate(tmp_path)[1] == 0


def test_refusal_comes_before_anything_is_played_or_checked(tmp_path):
    evaluate(tmp_path)
    log = (tmp_path / "episodes.jsonl").read_bytes()
    before = FakePool.checks
    try:
        FakePool.checks = None  # would not even be a list
        with pytest.raises(UserError, match="leaves out"):
            evaluate(tmp_path, episodes=1)
    finally:
        FakePool.checks = before
    assert (tmp_path / "episodes.jsonl").read_bytes() == log


def test_results_name_the_unusual_options(tmp_path):
    assert evaluate(tmp_path, seed=2)[0]["options"] == {"image_size": 16, "horizon": 3, "seed": 2}


def test_two_evaluations_at_once_into_one_folder_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(closed_loop, "SimulatorPool", lambda workers, **_: FakePool(tmp_path / "log", workers))
    options = {"horizon": 3, "image_size": 16, "episodes": 1, "videos": 0, "output_dir": tmp_path}
    config = ClosedLoopConfig(policy="zero", **options)
    target = output_folder(config, None)
    target.mkdir(parents=True)
    held = lock_file(target / LOCK)
    with pytest.raises(
        UserError, match="output_dir: another evaluation is writing to .*; wait for it, or name another"
    ):
        closed_loop.run(config)
    os.close(held)
    assert closed_loop.run(config) == 0 and (target / "results.json").exists()
