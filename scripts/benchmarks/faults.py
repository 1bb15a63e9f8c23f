"""Training that is killed at random moments, in the middle of saves too, against the same training undisturbed.

Processes of the real program (`vla.training.pretrain.run`) are forked, killed by SIGKILL - all of them, or one, whose
others must then stop by themselves - and started again with `--resume auto` until the run is done. Weights, optimizer,
random number generators, position and metrics.jsonl must be those of the undisturbed run, bit for bit.

    python scripts/bench.py faults --save --folder runs/faults    # 200 kills
    python scripts/bench.py faults --kills 8 --steps 8            # a look

With a folder, the same command goes on after the last run that was finished when it was interrupted.

`differences` and `problems` (a checkpoint lost, a process that hangs) must be 0; `most_lost_steps` is what a kill took
back, where a checkpoint is written every 2 steps; `longest_stop_s` is how long the others of a killed process went on.
"""

import json
import os
import random
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vla.conf.strategies import DDPConfig, FSDPFullShardConfig, StrategyConfig
from vla.training import pretrain
from vla.training.checkpoint_files import write_json
from vla.training.faults import Report, differences, preload, run_killed, run_straight, start_over, tiny_run

CASES: dict[str, tuple[StrategyConfig, int]] = {
    "ddp, 1 process": (DDPConfig(), 1),
    "fsdp, 1 process": (FSDPFullShardConfig(), 1),
    "ddp, 2 processes": (DDPConfig(), 2),
    "fsdp, 2 processes": (FSDPFullShardConfig(), 2),
}


def run(kills: int = 200, steps: int = 24, seed: int = 0, folder: str = "") -> dict[str, Any]:
    """Kill runs of every case until there were `kills` in all.

    Args:
        kills: in all, an equal share for each case.
        steps: of a run.
        seed: of the moments.
        folder: where the runs and what is known of them go; none: a temporary one.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    preload()
    _preload_model()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(folder or temporary)
        root.mkdir(parents=True, exist_ok=True)
        for name in CASES:
            rows.append({"name": name, **_case(root, name, steps, -(-kills // len(CASES)), seed)})
    return {"rows": rows, "kills": sum(row["kills"] for row in rows), "steps_per_run": steps}


def _preload_model() -> None:
    """What this model and its data need besides: importing it takes longer than all else in the start of a process,
    and there are hundreds of starts.
    """
    import vla.data.datasets.libero
    import vla.models.vlas.atlas
    import vla.training.evaluate
    import vla.training.tasks.action  # noqa: F401
    from vla.torchvision_shim import prepare_torchvision

    prepare_torchvision()
    import transformers.models.llama.modeling_llama  # noqa: F401
    from transformers import AutoModel, PreTrainedTokenizerFast  # noqa: F401 - imported when they are looked up


@dataclass
class _Total(Report):
    """Of all runs of a case."""

    runs: int = 0
    different: int = 0  # of the runs

    def add(self, report: Report, found: list[str]) -> None:
        """One more run, and what is wrong with it."""
        self.runs += 1
        self.different += bool(found)
        self.problems += found
        self.kills += report.kills
        self.in_saves += report.in_saves
        self.of_one_process += report.of_one_process
        self.most_lost_steps = max(self.most_lost_steps, report.most_lost_steps)
        self.longest_stop = max(self.longest_stop, report.longest_stop)


def _case(root: Path, name: str, steps: int, kills: int, seed: int) -> dict[str, Any]:
    strategy, world_size = CASES[name]
    label = f"{name.replace(', ', '-').replace(' ', '-')}-{steps}-{seed}"
    straight, killed = (
        tiny_run(root, f"{label}-{kind}", strategy, world_size, steps) for kind in ("straight", "killed")
    )
    log, known = root / f"{label}.log", root / f"{label}.json"
    run_straight(lambda: pretrain.run(straight), world_size, log)
    total = _Total(**json.loads(known.read_text())) if known.exists() else _Total()
    while total.kills < kills:
        start_over(killed.run_dir)
        chance = random.Random(f"{seed} {name} {total.runs}")
        most = min(kills - total.kills, 12)
        report = run_killed(lambda: pretrain.run(killed), killed.run_dir, world_size, log, chance, most)
        total.add(report, report.problems or differences(straight.run_dir, killed.run_dir))
        write_json(known, asdict(total))
        print(f"{name}: {total.kills} kills in {total.runs} runs; {total.problems or 'no difference'}", flush=True)
    return {
        "kills": total.kills, "in_saves": total.in_saves, "of_one_process": total.of_one_process, "runs": total.runs,
        "differences": total.different, "problems": len(total.problems), "most_lost_steps": total.most_lost_steps,
        "longest_stop_s": round(total.longest_stop, 2),
    }  # fmt: skip
