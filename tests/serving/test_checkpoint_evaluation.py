"""A training whose checkpoints are evaluated by other processes, and the program that these run."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from llava_files import write_llava

from vla.conf.background import BackgroundEvaluationConfig
from vla.conf.models.nanovlm import NanoVLMTinyConfig
from vla.conf.pretrain import CheckpointConfig, EvaluationConfig, LoaderConfig, PretrainConfig
from vla.conf.stage import Stage
from vla.conf.vqa_datasets import LlavaVQAConfig, PackingConfig
from vla.serving.checkpoint_evaluation import main
from vla.training import pretrain
from vla.training.evaluation_jobs import REQUEST


def run_config(root: Path, **background: Any) -> PretrainConfig:
    """Four steps; checkpoints 2 and 4 are evaluated, of which only one is kept."""
    data = LlavaVQAConfig(
        root=write_llava(root / "data").root, validation_annotations=None, validation_fraction=0.25,
        packing=PackingConfig(buffer_size=8, streams=1),
    )  # fmt: skip
    tiny = NanoVLMTinyConfig()
    settings = BackgroundEvaluationConfig(
        **({"every_steps": 2, "questions": data.root / "finetune.json", "max_pictures": 4} | background)  # type: ignore[operator]
    )
    return PretrainConfig(
        model=replace(tiny, full_finetune=replace(tiny.full_finetune, max_steps=4)), dataset=data,
        stage=Stage.FULL_FINETUNE, run_id="run", run_root_dir=root / "runs", device="cpu", log_every_steps=1,
        trackers=("jsonl",), loader=LoaderConfig(num_workers=0), report=False,
        evaluation=EvaluationConfig(every_epochs=None, background=settings),
        checkpoint=CheckpointConfig(every_epochs=None, keep_last=1, keep_best=False),
    )  # fmt: skip


def rows(config: PretrainConfig) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (config.run_dir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_checkpoints_are_evaluated_while_the_training_goes_on(tmp_path: Path) -> None:
    config = run_config(tmp_path)
    assert pretrain.run(config) == 0
    late = {row["global_step"]: row for row in rows(config) if "questions/all_accuracy" in row}
    assert late.keys() == {2, 4} and all(0 <= row["questions/all_accuracy"] <= 1 for row in late.values())
    assert [path.name for path in (config.run_dir / "checkpoints").glob("step-*")] == ["step-000004"]
    folder = config.run_dir / "evaluation/background"
    answers = json.loads((folder / "step-000002/questions/results.json").read_text())["answers"]
    assert len(answers) > 4 and not (folder / "step-000002/checkpoint").exists()
    # What was found is logged once, also by a run that is taken up again, even if it was interrupted before.
    kept = [row for row in rows(config) if row is not late[2] and "questions/all_accuracy" not in row]
    (config.run_dir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    for _ in range(2):
        assert pretrain.run(replace(config, resume="auto")) == 0
        assert [row for row in rows(config) if "questions/all_accuracy" in row] == [late[2], late[4]]
    assert "training_stats/avg_tokens_per_second" in rows(config)[0]


def request(folder: Path, part: str, **values: Any) -> None:
    content = {"global_step": 3, "parts": [part], "device": "cpu", "niceness": 0} | values
    (folder / REQUEST).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("questions", {"questions": {"questions": "none.json", "images": None}}, "UserError: questions: none.json"),
        ("mmstar", {"lmms": {"limit": 1, "batch_size": 1}}, "UserError: "),
    ],
)
def test_a_failure_is_a_line_in_the_result(part: str, values: Any, message: str, tmp_path: Path, capsys: Any) -> None:
    request(tmp_path, part, **values)
    assert main([str(tmp_path), part]) == 1
    found = json.loads((tmp_path / f"{part}.json").read_text())
    assert found["global_step"] == 3 and found["error"].startswith(message) and "\n" not in found["error"]
    assert "Traceback" in capsys.readouterr().err


def test_models_of_other_kinds_have_no_such_evaluation(tmp_path: Path) -> None:
    settings = BackgroundEvaluationConfig(every_steps=2, questions=tmp_path / "q.json")
    with pytest.raises(ValueError, match=r"background\.every_steps: is for vision-language models, not action models"):
        PretrainConfig(evaluation=EvaluationConfig(background=settings))
