"""Evaluations in the background: started, merged, logged against their own step, picked up after an interruption."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toys import toy_config

from vla.conf.background import BackgroundEvaluationConfig
from vla.conf.pretrain import EvaluationConfig
from vla.errors import UserError
from vla.overwatch.distributed import DistState
from vla.training import background_evaluation, evaluation_jobs
from vla.training.background_evaluation import BackgroundEvaluation, merged_file
from vla.training.checkpoint_files import CheckpointWriter
from vla.training.evaluation_jobs import Job, LocalProcesses, SlurmJobs, job_environment
from vla.training.evaluation_requests import check_background
from vla.training.state import TrainerState

Answer = dict[str, Any]


class FakeRunner:
    """Jobs that are done when a test says so."""

    patience = 0.0

    def __init__(self) -> None:
        self.started: list[str] = []
        self.running: set[Job] = set()

    def start(self, job: Job) -> None:
        if job.part == "no-room":
            raise OSError("sbatch: invalid partition")
        self.started.append(f"{job.folder.name} {job.part}")
        self.running.add(job)

    def is_running(self, job: Job) -> bool:
        return job in self.running

    def finish(self, number: int = 0, **answer: Any) -> None:
        """The job that was started first ends; without an answer it leaves no file."""
        job = sorted(self.running, key=lambda job: (job.folder, job.part))[number]
        if answer:
            job.file("json").write_text(json.dumps({"global_step": 0, **answer}))
        self.running.discard(job)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_evaluation, "_LOOK_EVERY", 0.01)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., BackgroundEvaluation]]:
    """Open evaluations of a run at a step; closed at the end."""
    opened = []

    def evaluations(step: int = 0, runner: Any = None, open_it: bool = True, **values: Any) -> BackgroundEvaluation:
        settings = BackgroundEvaluationConfig(**({"every_steps": 2, "lmms_tasks": ("a", "b")} | values))
        config = replace(toy_config(tmp_path / "run"), evaluation=EvaluationConfig())
        object.__setattr__(config.evaluation, "background", settings)  # the toy is no vision-language model
        state = TrainerState(total_steps=10, global_step=step)
        made = BackgroundEvaluation(config, state, config.run_dir / "metrics.jsonl", is_main=True)
        made._runner = runner or FakeRunner()
        if open_it:
            opened.append(made.__enter__())
        return made

    yield evaluations
    for made in opened:
        made.__exit__()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[[int], Path]:
    """A complete checkpoint of a step."""

    def write(step: int) -> Path:
        folder = tmp_path / "run" / "checkpoints" / f"step-{step:06d}"
        with CheckpointWriter(folder) as writer:
            writer.data("model/all.safetensors", b"weights")
            writer.data("trainer/optimizer.safetensors", b"moments")
            writer.commit({"global_step": step})
        return folder

    return write


def until(condition: Callable[[], Any]) -> Any:
    """What `condition` gives when it gives something."""
    for _ in range(3000):
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError("it never happened")


def submit(evaluations: BackgroundEvaluation, folder: Path) -> None:
    evaluations._state.global_step = int(folder.name[-6:])
    evaluations.submit(folder)


def test_parts_are_merged_and_found_against_their_own_step(make: Any, checkpoint: Any, tmp_path: Path) -> None:
    evaluations = make(max_processes=2)
    folder = checkpoint(2)
    submit(evaluations, folder)
    runner = evaluations._runner
    until(lambda: len(runner.started) == 2)
    evaluations._state.global_step = 7  # the training goes on
    (folder / "model/all.safetensors").unlink()  # and deletes the checkpoint
    linked = evaluations._folder / "step-000002/checkpoint"
    assert (linked / "model/all.safetensors").read_bytes() == b"weights" and not (linked / "trainer").exists()
    runner.finish(results={"lmms_eval/a_score": 0.25})
    time.sleep(0.1)
    assert evaluations.found() == []
    runner.finish(results={"lmms_eval/b_score": 0.5})
    (finding,) = until(evaluations.found)
    assert finding.step == 2 and finding.metrics == {"lmms_eval/a_score": 0.25, "lmms_eval/b_score": 0.5}
    assert json.loads((evaluations._folder / "step-000002.json").read_text())["results"] == finding.metrics
    until(lambda: not linked.exists())


def test_no_more_processes_than_allowed(make: Any, checkpoint: Any) -> None:
    evaluations = make(lmms_tasks=("a", "b", "c"))
    submit(evaluations, checkpoint(2))
    runner = evaluations._runner
    for number in (1, 2, 3):
        until(lambda number=number: len(runner.started) == number)
        time.sleep(0.05)
        assert len(runner.started) == number
        runner.finish(results={f"lmms_eval/{number}": 1.0})
    assert len(until(evaluations.found)[0].metrics) == 3


def test_a_failure_is_one_line_and_no_more(make: Any, checkpoint: Any, caplog: pytest.LogCaptureFixture) -> None:
    evaluations = make(lmms_tasks=("breaks", "no-room", "vanishes", "works"))
    submit(evaluations, checkpoint(2))
    runner = evaluations._runner
    until(lambda: runner.running)
    runner.finish(error="KeyError: 'breaks'")
    until(lambda: "step-000002 vanishes" in runner.started)
    runner.finish()
    until(lambda: "step-000002 works" in runner.started)
    runner.finish(results={"lmms_eval/works": 1.0})
    (finding,) = until(evaluations.found)
    assert finding.metrics == {"lmms_eval/works": 1.0}
    lines = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(lines) == 3 and not any("\n" in line for line in lines)
    assert "evaluation of step 2 (breaks) failed: KeyError: 'breaks'; see" in lines[0]
    assert "sbatch: invalid partition" in lines[1] and "ended without a result" in lines[2]


def test_what_arrives_in_between_is_picked_up(make: Any, checkpoint: Any, tmp_path: Path) -> None:
    """Also by a run that goes on from a later step; what was logged is not found again."""
    first = make()
    submit(first, checkpoint(2))
    until(lambda: first._runner.started)
    first.__exit__()
    first._runner.finish(results={"lmms_eval/a": 1.0})
    runner = FakeRunner()
    second = make(step=4, runner=runner)
    until(lambda: runner.started == ["step-000002 b"])
    runner.finish(results={"lmms_eval/b": 2.0})
    (finding,) = until(second.found)
    assert finding.step == 2 and finding.metrics == {"lmms_eval/a": 1.0, "lmms_eval/b": 2.0}
    second.__exit__()
    third = make(step=4)  # interrupted before it could be logged
    (finding,) = until(third.found)
    third.__exit__()
    (tmp_path / "run/metrics.jsonl").write_text(json.dumps({"global_step": 2, **finding.metrics}) + "\n")
    assert make(step=4).found() == []


def test_evaluations_of_steps_to_come_again_are_put_aside(make: Any, checkpoint: Any) -> None:
    first = make()
    submit(first, checkpoint(4))
    until(lambda: first._runner.started)
    first.__exit__()
    second = make(step=2)
    assert not second._open and (second._folder / "superseded-step-000004").is_dir()


def test_a_damaged_file_of_an_evaluation_is_a_warning(make: Any, checkpoint: Any, caplog: Any) -> None:
    first = make()
    submit(first, checkpoint(2))
    first.__exit__()
    (first._folder / "step-000002/request.json").write_text("{")
    assert not make(step=3)._open and "step-000002 is not evaluated in the background" in caplog.text


def test_a_checkpoint_that_nobody_got_to_is_evaluated_after_all(make: Any, checkpoint: Any) -> None:
    checkpoint(4)
    evaluations = make(step=4)
    until(lambda: evaluations._runner.started)
    assert make(step=3)._open.keys() == set()


def test_waiting_ends_with_the_results_or_a_signal(make: Any, checkpoint: Any, caplog: Any) -> None:
    evaluations = make(lmms_tasks=("a",))
    submit(evaluations, checkpoint(2))
    evaluations.wait(lambda: True, DistState())
    assert "--resume auto picks them up" in caplog.text
    until(lambda: evaluations._runner.running)
    evaluations._runner.finish(results={"lmms_eval/a": 1.0})
    evaluations.wait(lambda: False, DistState())
    assert [finding.step for finding in evaluations.found()] == [2]


def test_nothing_is_done_unless_asked_for(tmp_path: Path) -> None:
    config = toy_config(tmp_path / "run")
    with BackgroundEvaluation(config, TrainerState(global_step=2), tmp_path / "m", is_main=True) as evaluations:
        assert not evaluations.due() and evaluations._thread is None
        evaluations.submit(tmp_path)
    assert not (tmp_path / "run").exists()


PROGRAM = "import sys, time, pathlib; time.sleep(float(sys.argv[1])); pathlib.Path(sys.argv[2]).write_text(sys.argv[3])"


def test_processes_outlive_who_started_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether one runs can be told by another process's runner, too."""
    words = [sys.executable, "-c", PROGRAM, "1.5", str(tmp_path / "out"), "$(x); `y` 'z'"]
    monkeypatch.setattr(Job, "command", words)
    job = Job(tmp_path, "some/task")
    LocalProcesses(1).start(job)
    other = LocalProcesses(1)
    assert other.is_running(job) and job.file("log") == tmp_path / "some_task.log"
    until(lambda: not other.is_running(job))
    assert (tmp_path / "out").read_text() == "$(x); `y` 'z'"


def test_jobs_know_nothing_of_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "SLURM_PROCID"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("SLURM_CONF", "here")
    found = job_environment(OMP_NUM_THREADS="3")
    assert not {"RANK", "WORLD_SIZE", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "SLURM_PROCID"} & found.keys()
    assert found["SLURM_CONF"] == "here" and found["OMP_NUM_THREADS"] == "3"


SBATCH = """#!{python}
import json, pathlib, subprocess, sys
here = pathlib.Path(__file__).parent
words = sys.argv[1:]
(here / "words.json").write_text(json.dumps(words))
script = next(i for i, word in enumerate(words) if word.endswith("job.sh"))
subprocess.run(["sh", *words[script:]], check=True)
print("4711;cluster")
"""
SQUEUE = "#!{python}\nimport pathlib\nprint((pathlib.Path(__file__).parent / 'queue').read_text())\n"


def test_jobs_of_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words reach the program as they are, whatever they hold."""
    for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE)):
        (tmp_path / name).write_text(text.replace("{python}", sys.executable))
        (tmp_path / name).chmod(0o755)
    (tmp_path / "queue").write_text("12\n4711\n")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    command = [sys.executable, "-c", PROGRAM, "0", str(tmp_path / "out"), "a; touch b $(c)"]
    monkeypatch.setattr(Job, "command", command)
    folder = tmp_path / "my run" / "evaluation" / "background" / "step-000002"
    folder.mkdir(parents=True)
    job, runner = Job(folder, "chartqa"), SlurmJobs(("--gres=gpu:1", "--time=1:00"))
    assert not runner.is_running(job)
    runner.start(job)
    words = json.loads((tmp_path / "words.json").read_text())
    assert words[:2] == ["--parsable", "--job-name=my run-step-000002-chartqa"]
    assert words[4:6] == ["--gres=gpu:1", "--time=1:00"] and words[-len(command) :] == command
    assert (tmp_path / "out").read_text() == "a; touch b $(c)"
    assert runner.is_running(job) and SlurmJobs(()).is_running(job)  # another run asks for the same number
    (tmp_path / "queue").write_text("12\n")
    assert not SlurmJobs(()).is_running(job)
    monkeypatch.setattr(evaluation_jobs, "_ASK_SLURM_EVERY", 0.0)
    (tmp_path / "squeue").write_text("#!/bin/sh\nexit 1\n")
    assert runner.is_running(job)  # Slurm says nothing: nothing is known to have ended
    monkeypatch.setattr(evaluation_jobs, "_ASK_SLURM_EVERY", 1000.0)
    resumed = SlurmJobs(())
    assert resumed.is_running(job) and resumed.is_running(job)  # and none is submitted again until it answers
    (tmp_path / "sbatch").write_text("#!/bin/sh\necho 'error: no\npartition' >&2\nexit 1\n")
    with pytest.raises(OSError, match="^sbatch: error: no partition$"):
        runner.start(job)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"questions": Path("nowhere.json")}, "questions: there is no file or folder nowhere.json"),
        ({"lmms_tasks": ("a",)}, r"lmms_tasks: lmms-eval is not installed; pip install '\.\[lmms-eval\]'"),
        ({"questions": Path(__file__), "runner": "slurm"}, "runner: slurm needs sbatch"),
    ],
)
def test_what_is_missing_is_told_before_anything_is_built(
    values: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vla.training.evaluation_requests.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    config = toy_config(tmp_path / "run")
    object.__setattr__(config.evaluation, "background", BackgroundEvaluationConfig(every_steps=1, **values))
    with pytest.raises(UserError, match=message):
        check_background(config)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="every_steps: needs questions or lmms_tasks, got 5"):
        BackgroundEvaluationConfig(every_steps=5)
    assert merged_file(Path("a/step-000001")) == Path("a/step-000001.json")
