"""Where evaluations in the background run: processes of this machine, or jobs of Slurm. No shell reads a command.

What is done is known from files alone, so that a run that was interrupted finds what went on without it:

evaluation/background/step-000120/
    request.json        what is asked of the checkpoint
    checkpoint/         its weights and contract, until all parts are done
    <part>.json         {"global_step", "results"} or {"global_step", "error"}, written when the part is done
    <part>.log          what its process printed
    <part>.lock         locked by its process while that runs (local)
    <part>.job          number of its job (slurm)
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import vla
from vla.conf.background import BackgroundEvaluationConfig
from vla.overwatch.file_lock import lock_file

PROGRAM = "vla.serving.checkpoint_evaluation"  # takes the folder and the name of a part
REQUEST, CHECKPOINT = "request.json", "checkpoint"
JOB_SCRIPT = "job.sh"
_JOB_SCRIPT = '#!/bin/sh\nexec "$@"\n'  # sbatch takes scripts only; the words of the command pass through as they are
_LAUNCHER = ("SLURM_", "TORCHELASTIC_")  # beginnings of names
_RANKS = (
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK", "ROLE_NAME",
    "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
)  # fmt: skip
_ASK_SLURM_EVERY = 30.0  # seconds
_SLURM_TIMEOUT = 60.0  # seconds


@dataclass(frozen=True)
class Job:
    """A part of the evaluation of one checkpoint."""

    folder: Path
    part: str

    def file(self, suffix: str) -> Path:
        """A file of this part; tasks of lmms-eval may have slashes in their names."""
        return self.folder / f"{self.part.replace('/', '_')}.{suffix}"

    @property
    def command(self) -> list[str]:
        """The words of the command."""
        return [sys.executable, "-m", PROGRAM, str(self.folder.resolve()), self.part]


class Runner(Protocol):
    """Runs jobs."""

    patience: float  # seconds for which a job may be neither running nor done: file systems of clusters are late

    def start(self, job: Job) -> None:
        """Start a job; OSError if that can't be done."""
        ...

    def is_running(self, job: Job) -> bool:
        """Whether a job, started by this process or an earlier one, waits or runs."""
        ...


def get_runner(config: BackgroundEvaluationConfig) -> Runner:
    """The runner that `config` names."""
    return SlurmJobs(config.sbatch_options) if config.runner == "slurm" else LocalProcesses(config.threads)


def job_environment(**more: str) -> dict[str, str]:
    """This process's environment without what its launcher told it: a job is no process of the run."""
    kept = {
        name: value for name, value in os.environ.items()
        if name == "SLURM_CONF" or not (name.startswith(_LAUNCHER) or name in _RANKS)
    }  # fmt: skip
    paths = [str(Path(vla.__file__).resolve().parents[1]), kept.get("PYTHONPATH", "")]
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, paths))} | more


class LocalProcesses:
    """Processes that outlive this one: what they find is not lost when the training is interrupted.

    Args:
        threads: of each.
    """

    patience = 0.0

    def __init__(self, threads: int) -> None:
        self._threads = str(threads)
        self._processes: dict[Job, subprocess.Popen[bytes]] = {}

    def start(self, job: Job) -> None:
        """See `Runner`. A Ctrl-C of the terminal doesn't reach it."""
        for process in self._processes.values():
            process.poll()  # those that have ended leave the system's table
        options: dict[str, Any] = {"start_new_session": True} if os.name != "nt" else {}
        lock = lock_file(job.file("lock"))
        if lock is not None:
            options["pass_fds"] = (lock,)
        try:
            with job.file("log").open("ab") as log:
                self._processes[job] = subprocess.Popen(
                    job.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                    env=job_environment(OMP_NUM_THREADS=self._threads), **options,
                )  # fmt: skip
        finally:
            if lock is not None:
                os.close(lock)  # the process holds it now, until it ends, however it ends

    def is_running(self, job: Job) -> bool:
        """See `Runner`."""
        if job in self._processes:
            return self._processes[job].poll() is None
        if not job.file("lock").exists():
            return False
        try:
            lock = lock_file(job.file("lock"))
        except OSError:  # somebody has it
            return True
        if lock is not None:
            os.close(lock)
        return False


class SlurmJobs:
    """Jobs of Slurm.

    Args:
        options: words for sbatch.
    """

    patience = 2 * _ASK_SLURM_EVERY

    def __init__(self, options: tuple[str, ...]) -> None:
        self._options = options
        self._asked = -_ASK_SLURM_EVERY
        self._known: set[str] = set()
        self._answers = True  # whether Slurm did when it was asked last

    def start(self, job: Job) -> None:
        """See `Runner`."""
        script = job.folder / JOB_SCRIPT
        script.write_text(_JOB_SCRIPT, encoding="utf-8")
        name = f"{job.folder.parents[2].name}-{job.folder.name}-{job.part}"
        words = [
            "sbatch", "--parsable", f"--job-name={name}", f"--output={job.file('log').resolve()}",
            "--open-mode=append", *self._options, str(script.resolve()), *job.command,
        ]  # fmt: skip
        number = _ask(words).split(";")[0]  # "<number>;<cluster>"
        job.file("job").write_text(number, encoding="utf-8")
        self._known.add(number)

    def is_running(self, job: Job) -> bool:
        """See `Runner`. Slurm is asked now and then, about all jobs of the user at once."""
        if not job.file("job").is_file():
            return False
        if time.monotonic() - self._asked > _ASK_SLURM_EVERY:
            self._asked = time.monotonic()
            try:
                self._known = set(_ask(["squeue", "--noheader", "--me", "--format=%i"]).split())
                self._answers = True
            except OSError:
                self._answers = False
        if not self._answers:  # nothing is known to have ended
            return True
        return job.file("job").read_text(encoding="utf-8") in self._known


def _ask(words: list[str]) -> str:
    """What a program prints.

    Raises:
        OSError: it failed, or took too long.
    """
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=_SLURM_TIMEOUT, check=False, env=job_environment()
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{words[0]} took longer than {_SLURM_TIMEOUT:.0f} s") from error
    if done.returncode:
        raise OSError(f"{words[0]}: {' '.join(done.stderr.split()) or f'exit code {done.returncode}'}")
    return done.stdout.strip()
