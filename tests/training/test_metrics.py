"""Metrics, trackers and console."""

import json
import re
import sys
import threading
import types
from dataclasses import replace

import jsonlines
import pytest
import torch
from toys import toy_config, toy_strategy

from vla.overwatch import log_to_file
from vla.overwatch.distributed import DistState
from vla.training.metrics import StepClock, WeightedSums
from vla.training.metrics_files import LinesFile
from vla.training.progress import ProgressDisplay, describe
from vla.training.trackers import JSONLTracker, Trackers, cut_after


def test_means_are_weighted():
    sums = WeightedSums()
    sums.add("loss", torch.tensor(6.0, requires_grad=True), torch.tensor(3))
    sums.add("loss", 4.0, 1)
    sums.add("norm", 5.0)
    sums.add("nothing", torch.tensor(0.0), torch.tensor(0))
    assert sums.means(DistState()) == {"loss": 2.5, "norm": 5.0}
    copy = WeightedSums()
    copy.load_state_dict({**sums.state_dict(), "rng.torch": torch.zeros(1)})
    copy.add("loss", 0.0, 6)
    assert copy.means(DistState())["loss"] == 1.0 and sums.means(DistState())["loss"] == 2.5
    sums.clear()
    assert sums.means(DistState()) == {}


def test_sums_that_were_read_from_a_checkpoint_go_on_where_the_loss_is():
    """They come to the host; the losses of a run on an accelerator do not."""
    sums = WeightedSums()
    sums.load_state_dict({"sums.loss": torch.ones(2, dtype=torch.float64)})
    sums.add("loss", torch.ones((), device="meta"), 2.0)
    assert sums._sums["loss"].device.type == "meta"


def test_clock(monkeypatch):
    """Two steps of 16 samples, 1 s of waiting and 3 s of work each; what happens between them doesn't count."""
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    clock = StepClock()
    assert clock.metrics() == {}
    for _ in range(2):
        with clock.waiting():
            now[0] += 1
        with clock.working(16):
            now[0] += 3
        now[0] += 100  # an evaluation
    assert clock.metrics() == {"step_time": 4.0, "samples_per_second": 4.0, "data_wait": 0.25}


def test_jsonl_is_cut_where_the_run_goes_on(tmp_path):
    tracker = JSONLTracker(tmp_path)
    for step in (1, 2, 2, 3, 4):
        tracker.write(step, {"train/loss": step / 3})
    tracker.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"global_step": 2, "tra')
    JSONLTracker(tmp_path, step=2).close()
    with jsonlines.open(tmp_path / "metrics.jsonl") as lines:
        assert [line["global_step"] for line in lines] == [1, 2, 2]
    assert cut_after(tmp_path / "metrics.jsonl", 1) == 2 and cut_after(tmp_path / "none", 0) == 0


def test_tensorboard_events(tmp_path):
    config = replace(toy_config(tmp_path / "run"), trackers=("tensorboard",))
    toy_strategy(config).run_training()
    files = list((config.run_dir / "tensorboard").iterdir())
    assert files and b"train/loss" in files[0].read_bytes()
    assert (config.run_dir / "metrics.jsonl").exists()  # always


def test_wandb_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    config = replace(toy_config(tmp_path / "run"), trackers=("wandb",))
    with pytest.raises(ValueError, match=r"pip install \.\[wandb\]"):
        Trackers(config, is_main=True)
    Trackers(config, is_main=False).write(1, {"train/loss": 1.0})


def test_only_the_main_process_writes(tmp_path, capsys):
    config = replace(toy_config(tmp_path / "run"), trackers=("jsonl", "tensorboard"))
    trackers = Trackers(config, is_main=False, state={"wandb": {"run_id": "a"}})
    trackers.write(1, {"train/loss": 1.0})
    trackers.close()
    assert trackers.state_dict() == {"wandb": {"run_id": "a"}}
    ProgressDisplay(8, 0, "run", is_main=False).show(1, {"train/loss": 1.0})
    assert not list(tmp_path.iterdir()) and capsys.readouterr().err == ""


def test_wandb_goes_on_with_the_same_run(tmp_path, monkeypatch):
    calls = []

    class Run:
        id = "abc123"

        def log(self, metrics, step):
            calls.append((step, metrics))

        def finish(self):
            calls.append("finished")

    wandb = types.SimpleNamespace(init=lambda **options: (calls.append(options), Run())[1])
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    config = replace(toy_config(tmp_path / "run"), trackers=("wandb",))
    strategy = toy_strategy(config)
    strategy.run_training()
    assert calls[0]["id"] is None and calls[0]["resume"] == "allow" and calls[0]["config"]["stage"] == "align"
    assert calls[1][0] == 1 and "train/loss" in calls[1][1] and calls[-1] == "finished"
    state = json.loads((strategy.store.newest() / "trainer/state.json").read_text())
    assert state["trackers"]["wandb"] == {"run_id": "abc123"}
    calls.clear()
    toy_strategy(config, resume_from=strategy.store.path(4)).run_training()
    assert calls[0]["id"] == "abc123" and calls[1][0] == 5


def test_late_metrics_reach_every_tracker_as_those_of_their_own_step(tmp_path, monkeypatch):
    calls = []
    run = types.SimpleNamespace(
        id="a", log=lambda metrics, step=None: calls.append((step, metrics)), finish=lambda: None,
        define_metric=lambda **options: calls.append(options),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=lambda **options: run))
    config = replace(toy_config(tmp_path / "run"), trackers=("wandb", "tensorboard", "prismatic"))
    trackers = Trackers(config, is_main=True)
    trackers.write(4, {"train/loss": 1.0})
    for step, value in ((2, 0.5), (3, 0.75)):
        trackers.write_late(step, {"lmms_eval/a": value})
    trackers.close()
    assert [json.loads(line) for line in (config.run_dir / "metrics.jsonl").read_text().splitlines()][1:] == [
        {"global_step": 2, "lmms_eval/a": 0.5}, {"global_step": 3, "lmms_eval/a": 0.75},
    ]  # fmt: skip
    axis = "<lmms-eval-step>"
    assert calls[1:] == [
        {"name": "lmms_eval/a", "step_metric": axis}, (None, {"lmms_eval/a": 0.5, axis: 2}),
        (None, {"lmms_eval/a": 0.75, axis: 3}),
    ]  # fmt: skip


def fail(*_, **__):
    raise OSError(28, "No space left on device")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_no_tracker_ends_or_stops_a_run_whose_disk_is_full(tmp_path, monkeypatch, capsys):
    """tensorboardX's thread ends at the first error; a queue that nobody empties must not be waited for."""
    config = replace(toy_config(tmp_path / "run"), trackers=("tensorboard", "prismatic"))
    trackers = Trackers(config, is_main=True)
    events = trackers._trackers["tensorboard"]._writer.file_writer.event_writer
    with monkeypatch.context() as full:
        full.setattr(events._ev_writer, "write_event", fail)
        full.setattr(LinesFile, "write", fail)

        def write() -> None:
            for step in (1, 2):
                trackers.write(step, {f"train/{number}": 1.0 for number in range(30)})
                trackers.write_late(step, {"late": 1.0})
                trackers.add_step(step, 0.1)
                events._worker.join(60)

        writing = threading.Thread(target=write, daemon=True)
        writing.start()
        writing.join(120)
        assert not writing.is_alive()
    shown = capsys.readouterr().err
    for what in ("late metrics of step 1 are NOT in metrics.jsonl", "step 2 are NOT in tensorboard", "in prismatic"):
        assert what in shown
    trackers.write(3, {"train/loss": 1.0})
    trackers.add_step(3, 0.1)
    monkeypatch.setattr(trackers._trackers["tensorboard"]._writer, "close", fail)
    trackers.close()
    assert "the last metrics are NOT in tensorboard" in capsys.readouterr().err
    for name in ("metrics.jsonl", "run.jsonl"):
        (line,) = (config.run_dir / name).read_text().splitlines()
        assert 3 in json.loads(line).values()


def test_a_file_that_needs_no_cutting_is_not_written(tmp_path, monkeypatch):
    """So that a run can go on where the disk is full."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"global_step": 1}\n{"global_step": 2}\n')
    with monkeypatch.context() as full:
        full.setattr("os.replace", fail)
        assert cut_after(path, 2) == 0
        with pytest.raises(OSError, match="No space"):
            cut_after(path, 1)
    assert cut_after(path, 1) == 1 and path.read_text() == '{"global_step": 1}\n'


def test_console_lines(tmp_path, capsys):
    toy_strategy(toy_config(tmp_path / "run")).run_training()
    lines = capsys.readouterr().err.splitlines()
    training = next(line for line in lines if "step 2/8" in line)
    assert all(word in training for word in ("loss", "lr 5.00e-03", "grad norm", "samples/s", "data wait", "%", "GiB"))
    assert re.search(r"  ETA 0:\d\d:\d\d$", training)
    evaluation = next(line for line in lines if "step 4/8: eval" in line)
    assert "eval/loss" in evaluation and "eval/l1_" not in evaluation


def test_progress_bar_on_a_terminal(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    log = log_to_file(tmp_path / "console.log")
    display = ProgressDisplay(10, 2, "a-run", is_main=True)
    display.advance(3)
    display.show(3, {"train/loss": 0.5, "train/data_wait": 0.05, "train/step_time": 600.0})
    display.show(3, {"eval/loss": 0.25})
    display.close()
    log.close()
    shown = capsys.readouterr().err
    assert "a-run" in shown and "3/10" in shown and "eval/loss 0.25" in shown
    assert "step 3/10: loss" not in shown  # below the bar, and line by line in the file
    lines = (tmp_path / "console.log").read_text().splitlines()
    assert lines[0].endswith("step 3/10: loss 0.5000  data wait 5%  ETA 1:10:00")
    assert lines[1].endswith("step 3/10: eval/loss 0.25") and len(lines) == 2


def test_description():
    metrics = {"train/loss": 0.12345, "train/learning_rate": 1e-4, "train/data_wait": 0.031, "train/other": 1.0}
    assert describe(metrics) == "loss 0.1235  lr 1.00e-04  data wait 3%"
    more = {"train/memory_gib": 41.25, "train/mfu": 0.4321, "training_stats/avg_tokens_per_second": 12345.6}
    assert describe(metrics | more).endswith("tokens/s 12,346  data wait 3%  memory 41.2 GiB  MFU 43.2%")
