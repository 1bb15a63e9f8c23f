"""Closed-loop evaluation: audit, episodes in simulator processes, results, films (scripts/evaluate.py --suite)."""

from __future__ import annotations

import datetime
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

import vla
from vla.conf.closed_loop import ClosedLoopConfig
from vla.errors import UserError
from vla.evaluation.simulator import audit
from vla.evaluation.simulator.episode_log import LOG, Call, EpisodeLog, add_up
from vla.evaluation.simulator.golden import Check
from vla.evaluation.simulator.injection import FaultSpec
from vla.evaluation.simulator.messages import Job, Outcome
from vla.evaluation.simulator.pool import SimulatorError, SimulatorPool
from vla.evaluation.simulator.protocol import short_hash, suite_name
from vla.evaluation.simulator.runtime import ALLOW_VERSIONS_VARIABLE, other_versions
from vla.overwatch import initialize_overwatch
from vla.overwatch.file_lock import alone_with
from vla.serving.contact_sheet import write_contact_sheet
from vla.serving.evaluation_folder import LOCK, output_folder, refuse_to_replace, unusual_options
from vla.serving.instructions_check import check_instructions
from vla.serving.policy import Policy, ReplayPolicy
from vla.serving.preparation import audit_error, make_jobs, make_policy, make_protocol, tell_instructions
from vla.serving.preprocessing_check import check_preprocessing, training_data
from vla.serving.results import make_results, rate_of, to_table, write_results
from vla.serving.videos import write_video
from vla.serving.watching.film import draw_rounds
from vla.serving.watching.results import to_table as watching_table
from vla.serving.watching.results import watching_results
from vla.serving.watching.watched import Round, WatchedPolicy, fault_specs, load_watcher
from vla.serving.watching.watcher import Watcher

overwatch = initialize_overwatch(__name__)

CONTROL_HZ = 20.0


def run(config: ClosedLoopConfig, write_report: Callable[[Path], Path] | None = None) -> int:
    """Evaluate as `config` says; returns the exit code.

    1 means that an episode ended in an error, 130 that Ctrl-C stopped the evaluation.

    Writes `evaluation/<suite>/` (see `output_folder`) with results.json, summary.md, episodes.jsonl, the executed
    actions, films and a contact sheet. Episodes that are in episodes.jsonl already, of the same policy and protocol,
    are not played again.

    Args:
        config: what is asked for.
        write_report: called with the run's folder at the end; returns the report's path.

    Raises:
        UserError: no checkpoint, no simulator, or the self-audit failed; one line.
    """
    trained = config.policy == "checkpoint"
    device = "cuda" if config.device == "auto" and torch.cuda.is_available() else config.device.replace("auto", "cpu")
    needed = trained or (config.policy == "replay" and config.demonstrations is None)
    policy = None
    if needed and config.checkpoint:
        key = config.unnorm_key or suite_name(config.suite)
        policy = Policy.load(config.checkpoint, device, config.max_batch, key)
    watcher = load_watcher(config, device)
    folder = output_folder(config, policy)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output_dir: {error}") from error
    variables = {ALLOW_VERSIONS_VARIABLE: "1"} if audit.VERSIONS in config.force else {}
    pool = SimulatorPool(
        config.workers, python=config.simulator_python, time_limit=config.time_limit, log=folder / "simulator.log",
        variables=variables,
    )  # fmt: skip
    busy = f"output_dir: another evaluation is writing to {folder}; wait for it, or name another folder"
    try:
        with alone_with(folder / LOCK, busy), pool:
            code = ClosedLoop(config, policy, folder, pool, watcher).run()
    except KeyboardInterrupt:
        overwatch.warning(f"interrupted; finished episodes are in {folder / LOG}, the same command goes on from there")
        return 130
    except (SimulatorError, ValueError) as error:
        raise error if isinstance(error, UserError) else UserError(str(error)) from error
    if write_report is not None and (folder.parents[1] / "config.yaml").exists():  # a run, not a baseline
        print(f"report: {write_report(folder.parents[1])}")
    return code


class ClosedLoop:
    """One evaluation.

    Args:
        config: what is asked for.
        trained: the checkpoint's policy, if one is evaluated or its data is replayed.
        folder: takes the results.
        pool: plays the episodes.
        watcher: looks at what the policy sees, if there is one.
    """

    def __init__(
        self, config: ClosedLoopConfig, trained: Policy | None, folder: Path, pool: SimulatorPool,
        watcher: Watcher | None = None,
    ) -> None:  # fmt: skip
        self.config, self.trained, self.folder, self.pool = config, trained, folder, pool
        self.suite = suite_name(config.suite)
        data = training_data(trained) if trained is not None else None
        self.demonstrations = config.demonstrations or (data.root if data is not None else None)
        described = pool.call("vla.evaluation.simulator.audit:describe_suite", suite=self.suite)
        self.versions = {
            "vla": vla.__version__, "torch": torch.__version__, "numpy": np.__version__,
            "python": platform.python_version(), "gl_backend": described["gl_backend"],
            **{f"simulator {name}": version for name, version in described["versions"].items()},
        }  # fmt: skip
        self.tasks = tell_instructions(described["tasks"], config)
        self.policy = make_policy(config, trained, self.demonstrations, self.tasks)
        self.protocol = make_protocol(config, self.policy)
        others = other_versions(described["versions"])  # an evaluation that was forced is another one
        parts = [self.policy.fingerprint, self.protocol.hash, config.instructions, *([others] if others else [])]
        self.variant = short_hash(parts)
        self.watched: WatchedPolicy | None = None
        if watcher is not None:
            self.watched = WatchedPolicy(self.policy, watcher, self.protocol, config.watcher_action)
            self.variant = short_hash([self.variant, self.watched.fingerprint])

    @property
    def film_fps(self) -> float:
        """Frames per second at which films show what happened as fast as it happened."""
        return CONTROL_HZ / self.config.film_every

    def run(self) -> int:
        """Audit, play what is missing, write results, films and the contact sheet."""
        jobs = make_jobs(self.config, self.policy, self.protocol, self.tasks)
        faults = fault_specs(self.config)
        keys = [fault.key for fault in faults]
        refuse_to_replace(self.folder, self.variant, self.policy.fingerprint, jobs, keys)
        checks = self._audit()
        self._begin()
        rounds = [self._round(jobs, fault) for fault in (None, *faults)]
        log, outcomes = rounds[0].log, rounds[0].outcomes
        details = {
            "suite": self.suite, "policy": self._describe_policy(), "protocol": asdict(self.protocol),
            "protocol_hash": self.protocol.hash, "variant": self.variant, "instructions": self.config.instructions,
            "options": unusual_options(self.config, self.trained), "versions": self.versions,
            "audit": [asdict(check) for check in checks], "timing": add_up(item.log for item in rounds),
            "film_every": self.config.film_every, "film_fps": self.film_fps, "command": sys.argv,
        }  # fmt: skip
        results = make_results(outcomes, self.tasks, details, self._exact(outcomes))
        if self.watched is not None:
            results["watching"] = watching_results(self.watched, rounds)
        write_results(self.folder, results)
        console = Console()
        console.print(to_table(results))
        if self.watched is not None:
            console.print(watching_table(results["watching"]))
        if self.config.videos:
            self._film(jobs, outcomes, log, results)
            if self.watched is not None:
                draw_rounds(self.pool, self.folder, rounds, results["watching"], self.protocol)
        sheet = write_contact_sheet(self.folder, results)
        if sheet is not None:
            results["contact_sheet"] = sheet.name
        write_results(self.folder, results)
        print(f"results: {self.folder / 'results.json'}")
        errors = sum(outcome.status == "error" for item in rounds for outcome in item.outcomes)
        if errors:
            overwatch.error(f"{errors} episodes ended in errors and are counted neither as successes nor as failures")
        return 1 if errors else 0

    # --- self-audit ---

    def _audit(self) -> list[Check]:
        """All checks that apply; a failed one stops here, unless it was forced."""
        force = self.config.force
        overwatch.info(f"the simulator draws with {self.versions['gl_backend']}")
        checks: list[Check] = self.pool.call(
            "vla.evaluation.simulator.audit:audit_simulator", suite=self.suite, demonstrations=self.demonstrations
        )
        if isinstance(self.policy, Policy):
            contract = self.policy.processor.contract()
            checks.append(audit.check_contract(contract, self.config.override_contract))
            checks.append(check_preprocessing(self.policy))
            checks.append(check_instructions(self.policy, [task["instruction"] for task in self.tasks]))
        for index, check in enumerate(checks):
            if check.status == "failed":
                if check.name not in force:
                    raise audit_error(check)
                checks[index] = replace(check, status="failed, forced")
            log = overwatch.info if check.status == "passed" else overwatch.warning
            log(f"self-audit: {check.name} {checks[index].status}: {check.detail}")
        return checks

    # --- play ---

    def _begin(self) -> None:
        """Start the clock of this call."""
        now = datetime.datetime.now(datetime.timezone.utc)
        self._call, self._clock = Call(now.isoformat(timespec="milliseconds"), self.config.workers), time.perf_counter()

    def _round(self, jobs: list[Job], fault: FaultSpec | None) -> Round:
        """Play the episodes that are missing under a condition."""
        variant = self.variant
        if fault is not None:
            overwatch.info(f"with the fault {fault.key}")
            jobs = [replace(job, fault=fault) for job in jobs]
            variant = short_hash([variant, asdict(fault)])
        log = EpisodeLog(self.folder, variant)
        missing = [job for job in jobs if not log.finished(job.episode)]
        if len(missing) < len(jobs):
            overwatch.info(f"{len(jobs) - len(missing)} of {len(jobs)} episodes were played before")
        self._play(missing, log)
        return Round(fault, jobs, log, log.outcomes(job.episode for job in jobs))

    def _play(self, jobs: list[Job], log: EpisodeLog) -> None:
        done: list[Outcome] = []

        def on_done(outcome: Outcome) -> None:
            if self.watched is not None:
                outcome = self.watched.finished(outcome)
            self._call.seconds = round(time.perf_counter() - self._clock, 1)
            self._call.processes_replaced = self.pool.restarts
            log.append(outcome, self._call)
            done.append(outcome)
            name, seconds = outcome.episode, sum(outcome.seconds.values())
            text = outcome.message if outcome.status == "error" else f"{outcome.steps} steps, {seconds:.1f} s"
            overwatch.info(
                f"[{len(done)}/{len(jobs)}] task {name.task} init {name.init_id}: {outcome.status} ({text}); "
                f"so far {rate_of(done)}"
            )

        self.pool.run(jobs, (self.watched or self.policy).act, on_done)

    def _exact(self, outcomes: list[Outcome]) -> dict[str, bool] | None:
        """Replays: whether the states were those of the file, to the last bit."""
        if not isinstance(self.policy, ReplayPolicy):
            return None
        demos = self.policy.demonstrations
        return {
            item.episode.key: demos[item.episode.task][item.episode.init_id].states_hash(item.steps) == item.states_hash
            for item in outcomes
        }

    def _film(self, jobs: list[Job], outcomes: list[Outcome], log: EpisodeLog, results: dict[str, Any]) -> None:
        """Play some episodes again, exactly as they were, with cameras."""
        by_key = {job.episode.key: job for job in jobs}
        wanted: dict[tuple[int, str], int] = defaultdict(int)
        todo: list[Job] = []
        for outcome in outcomes:
            name, kind = outcome.episode, (outcome.episode.task, outcome.status)
            actions = log.actions(name) if outcome.status != "error" else None
            if actions is not None and wanted[kind] < self.config.videos:
                wanted[kind] += 1
                todo.append(replace(by_key[name.key], actions=actions, film_every=self.config.film_every))
        rows = {row["index"]: row for row in results["tasks"]}
        before = {outcome.episode.key: outcome for outcome in outcomes}

        def on_done(outcome: Outcome) -> None:
            name, earlier = outcome.episode, before[outcome.episode.key]
            if outcome.film is None or outcome.states_hash != earlier.states_hash:
                overwatch.warning(
                    f"{name.key} could not be filmed: {outcome.message or 'it did not play the same way'}"
                )
                return
            again = "" if name.seed == results["protocol"]["seed"] else f"-seed-{name.seed}"
            stem = f"task-{name.task:02d}-init-{name.init_id:02d}{again}-{earlier.status}"
            path = write_video(self.folder / "videos" / stem, outcome.film, self.film_fps)
            rows[name.task]["videos"].setdefault(earlier.status, []).append(f"videos/{path.name}")

        overwatch.info(f"filming {len(todo)} episodes")
        self.pool.run(todo, self.policy.act, on_done)

    def _describe_policy(self) -> dict[str, Any]:
        found: dict[str, Any] = {"name": self.policy.name, "fingerprint": self.policy.fingerprint}
        if isinstance(self.policy, Policy):
            found |= {
                "checkpoint": str(self.policy.checkpoint), "chunk_size": self.policy.chunk_size,
                "max_batch": self.policy.max_batch, "device": self.policy.device,
                "statistics_hash": self.policy.processor.statistics_hash,
                "global_step": self.policy.manifest.get("global_step"), "model": self.policy.manifest.get("model"),
            }  # fmt: skip
        return found
