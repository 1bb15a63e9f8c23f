"""`episodes.jsonl`: every finished episode as it ends, so that an interrupted evaluation goes on where it stopped."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vla.evaluation.simulator.messages import Episode, Outcome

LOG, ACTIONS = "episodes.jsonl", "actions"


@dataclass
class Call:
    """One call of the evaluating program, as far as it got.

    Attributes:
        start: when it began to play, UTC in ISO format; no other call that writes to the folder began then.
        workers: simulator processes.
        seconds: from then to the end of its last episode.
        episodes: that it played.
        processes_replaced: simulator processes that died or hung.
    """

    start: str
    workers: int
    seconds: float = 0.0
    episodes: int = 0
    processes_replaced: int = 0


class EpisodeLog:
    """Outcomes on disk, by episode and by what was evaluated.

    Lines of other policies and protocols may stand in the same file; they are left alone. A line that was cut off
    when the process died is passed over. Of several lines of an episode the last one counts.

    Args:
        folder: `<folder>/episodes.jsonl` and `<folder>/actions/<variant>/...npz`.
        variant: hash of the policy and of everything of the protocol; only outcomes of the same one count.
    """

    def __init__(self, folder: Path, variant: str) -> None:
        self._folder, self._variant = folder, variant
        self._path = folder / LOG
        self._outcomes: dict[str, Outcome] = {}
        self.calls: dict[str, Call] = {}
        self.untimed = 0  # episodes of which nobody wrote down in which call they were played
        if self._path.exists():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                self._read(line)

    def _read(self, line: str) -> None:
        try:
            entry: dict[str, Any] = json.loads(line)
            if entry["variant"] != self._variant:
                return
            episode = Episode(entry["suite"], entry["task"], entry["init_id"], entry["seed"])
            outcome = Outcome(
                episode, entry["status"], entry["steps"], initial_state_hash=entry["initial_state"],
                states_hash=entry["states"], seconds=entry["seconds"], rendered=entry["rendered"],
                attempts=entry["attempts"], message=entry["message"], onset=entry.get("onset"),
                watched=tuple((int(step), float(score)) for step, score in entry.get("watched", ())),
            )  # fmt: skip
            self._count(entry.get("call"))
        except (ValueError, KeyError, TypeError):
            return
        self._outcomes[episode.key] = outcome

    def _count(self, entry: dict[str, Any] | None) -> None:
        """Take in what a line says about the call that wrote it."""
        if entry is None:
            self.untimed += 1
            return
        call = self.calls.setdefault(entry["start"], Call(entry["start"], entry["workers"]))
        call.seconds = max(call.seconds, float(entry["seconds"]))
        call.processes_replaced = max(call.processes_replaced, int(entry["processes_replaced"]))
        call.episodes += 1

    def finished(self, episode: Episode) -> bool:
        """Whether the episode ended in a success or a failure; one that ended in an error is played again."""
        found = self._outcomes.get(episode.key)
        return found is not None and found.status != "error"

    def outcomes(self, episodes: Iterable[Episode]) -> list[Outcome]:
        """The outcomes of those of `episodes` that have one, in their order; without actions."""
        return [self._outcomes[episode.key] for episode in episodes if episode.key in self._outcomes]

    def actions(self, episode: Episode) -> np.ndarray | None:
        """The executed actions float64 [steps, 7] of an episode, if they were kept."""
        path = self._actions_path(episode)
        if not path.exists():
            return None
        with np.load(path, allow_pickle=False) as arrays:
            actions: np.ndarray = arrays["actions"]
        return actions

    def append(self, outcome: Outcome, call: Call | None = None) -> None:
        """Write an outcome down at once; its line comes last, so that what has a line is complete.

        Args:
            outcome: of an episode that is over.
            call: the present one, up to this moment.
        """
        episode = outcome.episode
        if len(outcome.actions):
            path = self._actions_path(episode)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(path, actions=outcome.actions)
        entry: dict[str, Any] = {
            "variant": self._variant, "suite": episode.suite, "task": episode.task, "init_id": episode.init_id,
            "seed": episode.seed, "status": outcome.status, "steps": outcome.steps,
            "initial_state": outcome.initial_state_hash, "states": outcome.states_hash, "seconds": outcome.seconds,
            "rendered": outcome.rendered, "attempts": outcome.attempts, "message": outcome.message,
            "time": round(time.time(), 1),
        }  # fmt: skip
        if call is not None:
            entry["call"] = {name: value for name, value in asdict(call).items() if name != "episodes"}
        self._count(entry.get("call"))
        if outcome.onset is not None:
            entry["onset"] = outcome.onset
        if outcome.watched:
            entry["watched"] = outcome.watched
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            if file.tell() and not self._ends_with_newline():
                file.write(b"\n")  # the last line was cut off; don't continue it
            file.write(json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._outcomes[episode.key] = replace(outcome, actions=np.zeros((0, 7)), film=None)

    def _ends_with_newline(self) -> bool:
        with self._path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def _actions_path(self, episode: Episode) -> Path:
        return self._folder / ACTIONS / self._variant / f"{episode.key.replace('/', '_')}.npz"


def add_up(logs: Iterable[EpisodeLog]) -> dict[str, Any]:
    """What all calls together took to play what is in some logs: `timing` of results.json.

    Args:
        logs: of the rounds of one evaluation; a call may have played in several of them.
    """
    logs = list(logs)
    calls: dict[str, Call] = {}
    for log in logs:
        for start, call in log.calls.items():
            whole = calls.setdefault(start, Call(start, call.workers))
            whole.seconds = max(whole.seconds, call.seconds)
            whole.processes_replaced = max(whole.processes_replaced, call.processes_replaced)
            whole.episodes += call.episodes
    found = [calls[start] for start in sorted(calls)]
    return {
        "seconds": round(sum(call.seconds for call in found), 1),
        "episodes": sum(call.episodes for call in found),
        "processes_replaced": sum(call.processes_replaced for call in found),
        "calls": [asdict(call) for call in found],
        "untimed_episodes": sum(log.untimed for log in logs),
    }
