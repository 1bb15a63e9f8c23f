"""What two processes measured of their steps, gathered through gloo; waiting for late results together."""

import json

import pytest
from groups import run_group

PROGRAM = """
import json, sys
from types import SimpleNamespace
from vla.conf.background import BackgroundEvaluationConfig
from vla.overwatch.distributed import destroy_distributed, initialize_distributed
from vla.training.background_evaluation import BackgroundEvaluation
from vla.training.state import TrainerState
from vla.training.statistics import FORWARD_BACKWARD, POST_PROCESS, StepStatistics

dist = initialize_distributed("cpu")
found = StepStatistics("cpu")
for step in range(2):
    for phase in (FORWARD_BACKWARD, POST_PROCESS):
        found._marks[phase].append((0.0, 1.0 + dist.rank))
    images = [float(dist.rank)] * (1 + dist.rank)
    found.add_step([{"tokens": [100.0 * (1 + step)], "images_per_sample": images}], 0.0)
gathered = found.gathered(dist)

settings = BackgroundEvaluationConfig(every_steps=1, lmms_tasks=("a",))
config = SimpleNamespace(evaluation=SimpleNamespace(background=settings), run_dir=__import__("pathlib").Path("."))
evaluations = BackgroundEvaluation(config, TrainerState(), config.run_dir, is_main=dist.is_main)
looks = []
if dist.is_main:
    evaluations._open = {config.run_dir: []}
    evaluations.wait(lambda: bool(looks.append(1) or len(looks) > 2 and evaluations._open.clear()), dist)
else:
    evaluations.wait(lambda: bool(looks.append(1)), dist)
destroy_distributed(dist)
print(json.dumps([gathered, len(looks)]))
"""


def test_two_processes() -> None:
    ended = run_group("-c", PROGRAM)
    assert [code for code, _ in ended] == [0, 0], ended[0].text
    (first, looks), (second, others) = (json.loads(text.splitlines()[-1]) for _, text in ended)
    assert first == second and looks == others == 3
    prefix = "training_stats/"
    expected = {
        "tokens_per_second": (112.5, 200.0, 50.0),  # 2 x (100, 200) tokens in 2 s, and in 4 s
        "fw_bw_time": (1.5, 2.0, 1.0), "data_load_time": (0.0, 0.0, 0.0), "images_per_sample": (4 / 6, 1.0, 0.0),
    }  # fmt: skip
    for name, (mean, largest, smallest) in expected.items():
        values = [first[f"{prefix}{kind}_{name}"] for kind in ("avg", "max", "min")]
        assert values == pytest.approx([mean, largest, smallest]), name
