"""The recording command line: what it refuses, what it prints, and how it stops. None of this needs the simulator."""

import os
import runpy
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import psutil
import pytest

from vla.overwatch.file_lock import lock_file

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "data.py"
FAKES = ROOT / "tests" / "evaluation" / "simulator"
FAKE = FAKES / "fake_recorder.py"


@pytest.fixture
def main(monkeypatch):
    """The script's, which puts the sub-command into sys.argv."""
    monkeypatch.setattr(sys, "argv", ["data.py"])
    return runpy.run_path(str(SCRIPT))["main"]


def fake_command(*words):
    """The script with a recorder that needs no simulator."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(FAKES)]), "COLUMNS": "200"}
    return [sys.executable, str(FAKE), str(SCRIPT), "record", *map(str, words)], environment


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("record --seed 3", "seed: must be >= 1000 (smaller ones are left to evaluations), got 3"),
        ("record --noise 2", "noise: must be within [0, 0.5], got 2.0"),
        ("record --missed-grasps 2", "missed_grasps: must be within [0, 1], got 2.0"),
        ("record --missed-grasps 0.7 --lost_hands 0.4", "lost_hands: must be at most 1 together with missed_gras"),
        ("record --noise-share 0", "noise_share: must be > 0 and <= 1, got 0.0"),
        ("record --noise_hold 0", "noise_hold: must be >= 1, got 0"),
        ("record --compression 10", "compression: must be within [0, 9], got 10"),
        ("record --image_size 8", "image_size: must be >= 16, got 8"),
        ("record --demos-per-task 0", "demos_per_task: must be > 0 unless other_targets is, got 0"),
        ("record --demos-per-task 1001", "demos_per_task: must be <= 1000, the number of a task's seeds, got 1001"),
        ("record --workers 0", "workers: must be > 0, got 0"),
        ("record --tasks first", "tasks: must be indices such as 0,3,6, or all, got 'first'"),
        ("record --suite libero", "suite: must be one of libero-spatial, libero-object, libero-goal, libero-10, libe"),
        ("record --suite libero-goal --other_targets 2",
         "other_targets: are known of libero-object and libero-spatial only; leave it out for libero-goal, got 2"),
        ("record --demo 3", "demo: "),
        ("records", "command: must be one of record, "),
    ],
)  # fmt: skip
def test_wrong_options_are_refused_in_one_line(main, capsys, words, message):
    assert main(words.split()) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"error: {message}") and line.count("\n") == 1


def test_missing_simulator_names_the_extra(main, capsys, monkeypatch, tmp_path):
    pytest.importorskip("h5py")

    def version(package):
        raise metadata.PackageNotFoundError(package)

    from vla.evaluation.simulator import runtime

    runtime.load_libero.cache_clear()
    runtime._suite.cache_clear()
    monkeypatch.setattr(runtime.metadata, "version", version)
    assert main(["record", "--output", str(tmp_path / "new")]) == 2
    line = capsys.readouterr().err
    assert "pip install '.[libero]'" in line and line.count("\n") == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("words", [["--help"], ["record", "--help"], ["download", "--help"], ["mix", "--help"]])
def test_help_imports_nothing_heavy(words):
    program = (
        f"import runpy, sys; sys.argv = ['data.py', *{words}]\n"
        f"try: runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "print(sorted({'torch', 'numpy', 'h5py', 'libero', 'mujoco'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert "usage: data.py" in done.stdout and done.stdout.splitlines()[-1] == "[]"
    assert words[0].startswith("-") or f"data.py {words[0]}" in done.stdout


def test_record_prints_a_table_and_does_nothing_twice(tmp_path):
    command, environment = fake_command(
        "--suite", "libero_object", "--tasks", "0,2", "--demos_per_task", "4", "--workers", "2", "--compression", "0",
        "--output", tmp_path,
    )  # fmt: skip
    first, second = (subprocess.run(command, env=environment, capture_output=True, text=True) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    rows = {row.split()[0]: row.split()[1:4] for row in first.stdout.splitlines() if row.strip()}
    assert rows["pick_up_the_thing_0"] == rows["pick_up_the_thing_2"] == ["4", "1", "9"]
    assert rows["all"] == ["8", "2", "18"]
    assert "8 demonstrations recorded now, 2 attempts failed in " in first.stdout and "per minute" in first.stdout
    assert "0 demonstrations recorded now, 0 attempts failed\n" in second.stdout


def test_second_recording_into_a_folder_is_refused(tmp_path):
    command, environment = fake_command("--tasks", "0", "--demos_per_task", "2", "--output", tmp_path)
    held = lock_file(tmp_path / ".recording.lock")
    refused = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stderr == f"error: output: another recording is writing to {tmp_path}; wait for it, or stop it\n"
    os.close(held)
    assert subprocess.run(command, env=environment).returncode == 0


def test_unknown_task_is_refused_in_one_line(tmp_path):
    command, environment = fake_command("--tasks", "1,7", "--output", tmp_path)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: tasks: must be of 0 to 2, or all, got 7\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_stopping_leaves_no_process_behind(tmp_path, number):
    (tmp_path / "slow").touch()
    command, environment = fake_command("--workers", "2", "--output", tmp_path)
    running = subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # shells ignore it in the background
    )  # fmt: skip
    give_up = time.monotonic() + 60
    while len(pids := list(tmp_path.glob("pid-*"))) < 2 and time.monotonic() < give_up:
        time.sleep(0.05)
    processes = [psutil.Process(int(path.name[4:])) for path in pids]
    if number == signal.SIGINT:
        os.killpg(running.pid, number)  # as a terminal does: every process of the group gets it
    else:
        running.kill()
    _, text = running.communicate(timeout=60)
    assert len(processes) == 2
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert not alive
    if number == signal.SIGINT:
        assert running.returncode == 130
        assert text.splitlines()[-1] == "interrupted; the same command goes on where it stopped"
        assert "Traceback" not in text
