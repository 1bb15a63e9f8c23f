"""Stopping by signal: the step is finished, the run saved, and `--resume auto` goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toys import assert_same_run, resumable_config, toy_strategy

from vla.commands.train import train
from vla.conf.pretrain import PretrainConfig
from vla.training import pretrain
from vla.training.checkpoint_store import CheckpointStore, resolve_resume
from vla.training.result import TrainingResult
from vla.training.signals import StopSignals

# A run of 12 steps, slow enough to be hit by a signal in the middle.
PROGRAM = """
import sys, time
from pathlib import Path
import toys
strategy = toys.toy_strategy(toys.resumable_config(Path(sys.argv[1]), workers=int(sys.argv[2])))
step = strategy.train_step
strategy.train_step = lambda *arguments: (time.sleep(0.3), step(*arguments))
result = strategy.run_training()
print(result.reason, result.global_step, result.interrupted)
"""


def start(run_dir: Path, workers: int = 0, **options: bool) -> subprocess.Popen:
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(run_dir), str(workers)], text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        **options,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while CheckpointStore(run_dir).steps()[-1:] < [2]:
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()
        time.sleep(0.05)
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=lambda number: number.name)
def test_stop_and_resume(tmp_path, number):
    process = start(tmp_path / "stopped")
    process.send_signal(number)
    assert_stops_and_resumes(process, number, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_signal_to_the_process_group(tmp_path, number):
    """Batch systems and terminals signal the workers that read data, too: they must live until the run is saved."""
    process = start(tmp_path / "stopped", workers=1, start_new_session=True)
    os.killpg(process.pid, number)
    assert_stops_and_resumes(process, number, tmp_path, workers=1)


def assert_stops_and_resumes(process: subprocess.Popen, number: signal.Signals, tmp_path: Path, workers: int = 0):
    out, err = process.communicate(timeout=60)
    reason, step, interrupted = out.split()
    assert process.returncode == 0 and reason == number.name and interrupted == "True" and 2 <= int(step) < 12
    assert f"{number.name}: stopping after this step, and saving" in err
    config = resumable_config(tmp_path / "stopped", workers=workers)
    checkpoint = resolve_resume(config.run_dir, "auto")
    assert checkpoint == CheckpointStore(config.run_dir).path(int(step))
    toy_strategy(config, resume_from=checkpoint).run_training()
    straight = resumable_config(tmp_path / "straight")
    toy_strategy(straight).run_training()
    assert_same_run(straight.run_dir, config.run_dir, 12)


def test_signals_before_and_after_the_training_are_not_lost(tmp_path, monkeypatch):
    """Nothing is to be saved then, but the run is to be put back into the queue."""
    before = signal.getsignal(signal.SIGUSR1)
    for place in ("build_strategy", "summarise"):
        with monkeypatch.context() as patch:
            if place == "summarise":
                patch.setattr(pretrain, "train", lambda *_: TrainingResult(3, "completed", None, None, None))
            patch.setattr(pretrain, place, lambda *_: os.kill(os.getpid(), signal.SIGUSR1) or time.sleep(60))
            with pytest.raises(SystemExit) as caught:
                pretrain.run(resumable_config(tmp_path / place))
        assert caught.value.code == pretrain.REQUEUE
        assert signal.getsignal(signal.SIGUSR1) is before


def test_a_signal_while_libraries_are_imported_is_not_lost(monkeypatch):
    """That takes seconds, and the run is to be put back into the queue like any other."""

    class Scheduler:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "vla.reporting":
                os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.delitem(sys.modules, "vla.reporting", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Scheduler(), *sys.meta_path])
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        train(PretrainConfig())
    assert caught.value.code == 75 and signal.getsignal(signal.SIGTERM) is before


def test_a_signal_after_the_last_step_stops_what_follows(tmp_path):
    """The training is over, and saved; evaluating it would go on past the time that is left."""
    strategy = toy_strategy(resumable_config(tmp_path / "run"))
    finish = strategy.saver.finish
    strategy.saver.finish = lambda *arguments: (
        os.kill(os.getpid(), signal.SIGTERM) if strategy.state.finished else None, finish(*arguments)
    )  # fmt: skip
    result = strategy.run_training()
    assert (result.reason, result.global_step, result.interrupted) == ("SIGTERM", 12, True)


def test_second_interrupt_stops_at_once(monkeypatch):
    """One Ctrl-C reaches a process under torchrun twice; a second one comes later."""
    now = [5.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with StopSignals() as signals:
        for now[0] in (5.0, 5.2):
            os.kill(os.getpid(), signal.SIGINT)
        assert signals.received == "SIGINT"
        now[0] = 7.0
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == "SIGTERM"
    assert signal.getsignal(signal.SIGTERM) is before
