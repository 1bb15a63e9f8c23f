"""Model cards say what a run's files say; uploads hold a checkpoint that loads, and fail in one line."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load, save_file

from vla.commands.convert import PROGRAM
from vla.conf import cli
from vla.conf.models import ModelConfig
from vla.conf.models.released import named_weights
from vla.conf.pretrain import PretrainConfig
from vla.data.processor import Processor
from vla.data.statistics import ArrayStatistics
from vla.errors import UserError
from vla.models.materialize import get_model
from vla.models.weights import hub
from vla.serving import publishing
from vla.serving.model_card import base_models, model_card
from vla.training.checkpoint_files import MANIFEST, read_manifest, read_tensors, write_json
from vla.training.imported import write_imported
from vla.training.inference import load_for_inference

STEP = 1234


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of the tiny policy, with what training and evaluation write."""
    folder = tmp_path_factory.mktemp("runs") / "my-run"
    model = ModelConfig.get_choice_class("vggt-tiny")()
    config = PretrainConfig(model=model, run_root_dir=folder.parent, run_id=folder.name)
    width = model.processor.action_dim
    rows = [tuple(float(value) for value in range(start, start + width)) for start in range(6)]
    found = ArrayStatistics(*rows, count=4321)
    processor = Processor(model.processor, model.chunk_size, {"actions": found, "proprio": found})
    checkpoint = folder / "checkpoints" / f"step-{STEP:06d}"
    checkpoint.parent.mkdir(parents=True)
    write_imported(config, processor, get_model(model, seed=3), checkpoint)
    (checkpoint / "trainer").mkdir()
    (checkpoint / "trainer" / "state.json").write_text("{}")
    manifest = read_manifest(checkpoint)
    manifest["files"]["trainer/state.json"] = 2
    manifest.pop("sha256")
    write_json(checkpoint / MANIFEST, {**manifest, "global_step": STEP, "epoch": 2.5})
    suite = folder / "evaluation" / "libero_object"
    suite.mkdir(parents=True)
    row = {"language": "pick up the soup", "successes": 3, "episodes": 4, "rate": 0.75, "low": 0.3, "high": 0.95}
    overall = {**row, "errors": 1, "distinct_initial_states": 4}
    results = {
        "policy": {"name": "my-run"}, "protocol": {"horizon": 280}, "protocol_hash": "abc", "overall": overall,
        "tasks": [row],
    }  # fmt: skip
    (suite / "results.json").write_text(json.dumps(results))
    questions = folder / "evaluation" / "questions"
    questions.mkdir()
    kind = {"kind": "colour", "questions": 8, "correct": 6, "accuracy": 0.75, "low": 0.4, "high": 0.93}
    (questions / "results.json").write_text(json.dumps({"accuracy": [{**kind, "majority_accuracy": 0.25}]}))
    broken = folder / "evaluation" / "other"
    broken.mkdir()
    (broken / "results.json").write_text("{")
    metrics = {"l1": 0.12345678, "num_actions": 99, "seconds": 3.0, "checkpoint": checkpoint.name}
    (folder / "evaluation" / "metrics.json").write_text(json.dumps(metrics))
    (folder / "environment.json").write_text(json.dumps({"processor": "a CPU", "transformers": "9.9", "processes": 2}))
    return folder


def front(text: str) -> dict[str, Any]:
    head, _, _ = text.removeprefix("---\n").partition("---\n")
    return yaml.safe_load(head)


def test_a_card_says_what_the_files_say(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert PROGRAM.run(["card", "--checkpoint", str(run_dir), "--repo", "me/soup", "--license", "mit"]) == 0
    assert capsys.readouterr().out == f"model card: {run_dir / 'README.md'}\n"
    text = (run_dir / "README.md").read_text()
    assert front(text) == {
        "library_name": "vla", "pipeline_tag": "robotics", "license": "mit",
        "tags": ["vla", "atlasvla", "vggt-tiny", "align"], "datasets": ["libero-mini"],
    }  # fmt: skip
    for line in (
        f"checkpoint `step-{STEP:06d}`", "Played by my-run; at most 280 steps", "# soup",
        "hf download me/soup --local-dir soup", "vla serve --checkpoint soup",
        "for 1,234 optimizer steps (2.5 epochs)", "| pick up the soup | 3/4 | 75.0% | 30.0% - 95.0% |",
        "| **all** | 3/4 | 75.0% | 30.0% - 95.0% |", "| colour | 6/8 | 75.0% | 40.0% - 93.0% | 25.0% |",
        "| l1 | 0.1235 |", "`evaluation/other/results.json`: can't be read as JSON (", "| chunk_size | 1 |",
        "| actions in the training split | 4,321 |", "transformers 9.9", "| gripper | 6 | 10 | 8 | 9 | 11 | 7 |",
        "1 episodes ended in an error", "Licence: `mit`.",
    ):  # fmt: skip
        assert line in text, line
    digest = json.loads(next(run_dir.glob("checkpoints/*/processor.json")).read_text())["statistics_hash"]
    assert f"`{digest}`" in text
    assert str(run_dir.parent) not in text  # nobody's folders


def test_a_licence_is_the_users_to_state(run_dir: Path, tmp_path: Path) -> None:
    words = ["card", "--checkpoint", str(run_dir), "--output", str(tmp_path / "cards" / "a.md")]
    assert PROGRAM.run(words) == 0
    text = (tmp_path / "cards" / "a.md").read_text()
    assert "license" not in front(text) and "Licence: **not stated.**" in text and "# my-run" in text


def test_base_models_are_ids_of_the_hub(tmp_path: Path) -> None:
    model = ModelConfig.get_choice_class("prism-dinosiglip-224px+7b")()
    found = base_models(PretrainConfig(model=model))
    assert found == list(dict.fromkeys(named_weights(model))) and all(name.count("/") == 1 for name in found)
    assert base_models(PretrainConfig(model=replace(model, pretrained=False))) == []
    local = replace(model, llm_backbone=replace(model.llm_backbone, weights=str(tmp_path)))
    assert str(tmp_path) not in base_models(PretrainConfig(model=local))


def test_without_results_nothing_is_claimed(run_dir: Path, tmp_path: Path) -> None:
    publishing.copy_for_inference(next(run_dir.glob("checkpoints/step-*")), tmp_path / "alone")
    assert "Nothing was measured." in model_card(tmp_path / "alone")


class Hub:
    """Stands for `huggingface_hub.HfApi`: keeps what it is given."""

    calls: list[Any] = []
    error: Exception | None = None

    def create_repo(self, repository: str, **options: Any) -> None:
        if Hub.error is not None:
            raise Hub.error
        Hub.calls.append((repository, options))

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> str:
        copy = Hub.calls[0][0]
        Hub.calls.append((repo_id, commit_message))
        Hub.files = {path.relative_to(folder_path).as_posix(): path.read_bytes() for path in folder_path.rglob("*.*")}
        return f"https://hub/{copy}/commit/1"


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> type[Hub]:
    Hub.calls, Hub.error = [], None
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_token")
    monkeypatch.setattr(hub, "hub_answers", lambda: True)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return Hub


def test_what_is_uploaded_loads_again(run_dir: Path, online: type[Hub], tmp_path: Path, capsys: Any) -> None:
    assert PROGRAM.run(["push", "--checkpoint", str(run_dir), "--repo", "me/soup", "--private"]) == 0
    assert online.calls == [
        ("me/soup", {"private": True, "exist_ok": True}), ("me/soup", f"Upload step-{STEP:06d}"),
    ]  # fmt: skip
    assert "https://hub/me/soup/commit/1" in capsys.readouterr().out
    assert front(online.files["README.md"].decode())["library_name"] == "vla"
    assert not any(name.startswith("trainer") for name in online.files)
    for name, content in online.files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert str(run_dir.parent) not in online.files["config.yaml"].decode()
    here, there = (load_for_inference(path)[2].state_dict() for path in (run_dir, tmp_path))
    assert here.keys() == there.keys() and all(torch.equal(here[name], there[name]) for name in here)


def test_weights_that_are_nowhere_else_go_along(run_dir: Path, online: type[Hub], tmp_path: Path) -> None:
    """A checkpoint that leaves out a backbone whose weights came from a file."""
    whole, run = next(run_dir.glob("checkpoints/step-*")), tmp_path / "run"
    backbone = tmp_path / "vggt" / "model.safetensors"
    backbone.parent.mkdir()
    stored = read_tensors(whole / "model" / "vision_backbone.safetensors")
    save_file({name.removeprefix("vision_backbone."): value for name, value in stored.items()}, backbone)
    checkpoint = run / "checkpoints" / "step-000007"
    publishing.copy_for_inference(whole, checkpoint)
    (checkpoint / "model" / "vision_backbone.safetensors").unlink()
    config = cli.load(PretrainConfig, checkpoint / "config.yaml")
    vggt = replace(config.model.vggt, weights=str(backbone.parent))
    (checkpoint / "config.yaml").unlink()
    cli.save(replace(config, model=replace(config.model, pretrained=True, vggt=vggt)), checkpoint / "config.yaml")
    manifest = read_manifest(whole)
    groups = [name for name in manifest["groups"] if name != "vision_backbone"]
    files = {name: (checkpoint / name).stat().st_size for name in manifest["files"] if (checkpoint / name).is_file()}
    changes = {"groups": groups, "groups_as_published": ["vision_backbone"], "files": files}
    write_json(checkpoint / MANIFEST, {**manifest, **changes})
    assert PROGRAM.run(["push", "--checkpoint", str(run), "--repo", "me/soup"]) == 0
    card = online.files["README.md"].decode()
    assert "base_model" not in front(card) and "are not in it" not in card
    manifest = json.loads(online.files["manifest.json"])
    assert manifest["groups_as_published"] == [] and "vision_backbone" in manifest["groups"]
    uploaded = online.files["config.yaml"].decode()
    assert "weights: vggt\n" in uploaded and str(tmp_path) not in uploaded  # what it was, not where
    assert load(online.files["model/vision_backbone.safetensors"]).keys() == stored.keys()
    assert "are not in it" in model_card(checkpoint)


def test_the_published_layout_is_uploaded(run_dir: Path, online: type[Hub]) -> None:
    words = ["push", "--checkpoint", str(run_dir), "--repo", "me/vggt", "--layout", "published"]
    assert PROGRAM.run(words) == 0
    assert sorted(online.files) == ["README.md", "config.json", "model.safetensors"]


def refusal(status: int) -> Exception:
    """What the client raises; the class of its responses differs between its versions."""
    from huggingface_hub.errors import HfHubHTTPError

    error = HfHubHTTPError.__new__(HfHubHTTPError)
    error.response = SimpleNamespace(status_code=status)
    return error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (refusal(403), "repo: the hub refuses 'me/soup' (HTTP 403): check that the token may write"),
        (refusal(500), "repo: the hub answers with an error (HTTP 500) for 'me/soup'"),
        (ConnectionError("reset"), "repo: the upload to 'me/soup' broke off (ConnectionError)"),
    ],
)
def test_refusals_are_one_line(run_dir: Path, online: type[Hub], capsys: Any, error: Exception, message: str) -> None:
    online.error = error
    assert PROGRAM.run(["push", "--checkpoint", str(run_dir), "--repo", "me/soup"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: {message}") and shown.count("\n") == 1


def test_without_token_or_network_nothing_is_tried(
    run_dir: Path, online: type[Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "hub_answers", lambda: False)
    with pytest.raises(UserError, match="repo: the hub can't be reached"):
        hub.check_hub()
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UserError, match="repo: uploading needs a token: log in with `hf auth login`, or set HF_TOKEN"):
        hub.check_hub()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert PROGRAM.run(["push", "--checkpoint", str(run_dir), "--repo", "me/soup"]) == 2
    assert PROGRAM.run(["push", "--checkpoint", str(run_dir)]) == 2
    assert online.calls == []
