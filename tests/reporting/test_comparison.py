"""`vla report`: runs side by side on one page that needs nothing else."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from html_page import Page

from vla.commands.main import main
from vla.reporting.comparison import render, short_names
from vla.reporting.comparison_tables import config_table, final_table
from vla.reporting.figures import RUNS
from vla.reporting.run_folder import read_run


@pytest.fixture
def runs(run_dir: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two runs; the second has another learning rate, fewer steps, and more errors."""
    first, second = run_dir.rename(tmp_path / "first"), tmp_path / "second"
    shutil.copytree(first, second)
    lines = (first / "metrics.jsonl").read_text().splitlines(keepends=True)
    (second / "metrics.jsonl").write_text("".join(line for line in lines if json.loads(line)["global_step"] <= 200))
    config = yaml.safe_load((second / "config.yaml").read_text())
    config["model"]["full_finetune"]["learning_rate"] = 5e-4
    config["model"]["full_finetune"]["max_grad_norm"] = None
    (second / "config.yaml").write_text(yaml.safe_dump(config))
    metrics = json.loads((second / "evaluation" / "metrics.json").read_text())
    metrics["gripper_accuracy"] = 0.5
    (second / "evaluation" / "metrics.json").write_text(json.dumps(metrics))
    return first, second


def test_two_runs_on_one_page(runs: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    output = tmp_path / "pages" / "page.html"
    assert main(["report", str(runs[0]), str(runs[1]), "--output", str(output)]) == 0
    assert capsys.readouterr().out == f"{output}\n"
    text = output.read_text()
    page = Page(text)
    assert all(item.startswith(("#", "data:")) for item in page.loads)
    assert "2 runs compared" in page.words and {"first", "second"} <= set(page.words)
    assert "model.full_finetune.learning_rate" in page.words and "0.0005" in page.words
    assert "model.full_finetune.epochs" not in page.words and "7 fields are equal." in page.words
    assert "96.5%" in page.best and "50.0%" not in page.best
    assert text.count("<svg") > 5 and 'name="viewport"' in text


def test_success_rates_come_first(runs: tuple[Path, Path]) -> None:
    for run, rate, told in ((runs[0], 0.9, "own"), (runs[1], 0.0, "shuffled")):
        folder = run / "evaluation" / "libero_object"
        folder.mkdir()
        overall = {"rate": rate, "low": 0.0, "high": 1.0, "successes": 9, "episodes": 10}
        results = {"suite": "libero_object", "instructions": told, "tasks": [], "overall": overall}
        (folder / "results.json").write_text(json.dumps(results))
    table = final_table([read_run(run) for run in runs])
    assert [row.name for row in table[:2]] == [
        "libero_object: success rate", "libero_object: success rate (told another task's instruction)",
    ]  # fmt: skip
    assert table[0].cells == ["90.0%", "–"] and not any(table[1].best)


def test_evaluations_of_one_suite_with_other_options_are_told_apart(runs: tuple[Path, Path]) -> None:
    for name, rate, options in (
        ("libero_object", 0.9, {}),
        ("libero_object-execute_steps-4", 0.5, {"execute_steps": 4}),
    ):
        folder = runs[0] / "evaluation" / name
        folder.mkdir()
        overall = {"rate": rate, "low": 0.0, "high": 1.0, "successes": 9, "episodes": 10}
        results = {"suite": "libero_object", "instructions": "task", "tasks": [], "overall": overall}
        (folder / "results.json").write_text(json.dumps({**results, "options": options}))
    table = final_table([read_run(run) for run in runs])
    assert {row.name: row.cells[0] for row in table[:2]} == {
        "libero_object: success rate": "90.0%", "libero_object: success rate (execute_steps 4)": "50.0%",
    }  # fmt: skip


def test_best_is_marked_where_it_is_known(runs: tuple[Path, Path]) -> None:
    table = {row.name: row for row in final_table([read_run(run) for run in runs])}
    assert table["held out: gripper accuracy"].best == [True, False]
    assert table["held out: translation l1"].cells[0].endswith(" mm")
    assert table["optimizer steps"].cells == ["400", "200"] and not any(table["optimizer steps"].best)
    assert sum(table["best held-out loss"].best) == 1
    assert table["parameters trained"].cells == ["259 k", "259 k"] and not any(table["parameters trained"].best)


def test_configurations_of_different_models() -> None:
    one = {"run_id": "a", "model": {"type": "x", "depth": 2, "names": ["a", "b"]}, "seed": 7, "flag": True}
    other = {"run_id": "b", "model": {"type": "y", "width": None, "names": ["a", "b"]}, "seed": 7, "flag": False}
    rows, equal = config_table([one, other])
    assert [(row.name, row.cells) for row in rows] == [
        ("model.type", ["x", "y"]), ("model.depth", ["2", "–"]), ("flag", ["true", "false"]),
        ("model.width", ["–", "none"]),
    ]  # fmt: skip
    assert equal == 2


def test_names_tell_folders_apart() -> None:
    assert short_names([Path("/runs/a"), Path("/runs/b")]) == ["a", "b"]
    assert short_names([Path("/x/a"), Path("/y/a")]) == ["x/a", "y/a"]
    assert short_names([Path("/x/a"), Path("/x/a")]) == ["a (1)", "a (2)"]


def test_many_runs_and_hostile_names(runs: tuple[Path, Path], tmp_path: Path) -> None:
    folders = [tmp_path / f"<b>run {number}" for number in range(len(RUNS) + 1)]
    for folder in folders:
        shutil.copytree(runs[1], folder)
    text = render([read_run(folder) for folder in folders])
    Page(text)
    assert "<b>run" not in text and "&lt;b&gt;run 0" in text and "stroke-dasharray" in text


def test_a_run_that_broke_is_compared_all_the_same(runs: tuple[Path, Path]) -> None:
    (runs[1] / "metrics.jsonl").unlink()
    (runs[1] / "config.yaml").write_text("[")
    page = Page(render([read_run(run) for run in runs]))
    assert "The training log is missing: there is no metrics.jsonl." in page.words
    assert any(word.startswith("The configuration can't be read") for word in page.words)


def test_one_run_gets_its_report_anew(runs: tuple[Path, Path], capsys) -> None:
    assert main(["report", str(runs[0])]) == 0
    assert capsys.readouterr().out.strip() == str(runs[0] / "report.html")
    assert "<h2>Training</h2>" in (runs[0] / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "runs: must name 1 to 12 run folders, got 0"),
        (["nowhere"], "runs: no such run folder: nowhere"),
        (["empty"], "runs: empty is no run folder: it has no config.yaml or metrics.jsonl"),
        (["first", "--output", "first/config.yaml/x.html"], "output: can't be written: "),
    ],
)
def test_wrong_folders_are_one_line(
    runs: tuple[Path, Path], tmp_path: Path, monkeypatch, capsys, words, message
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["report", *words]) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"error: {message}") and line.count("\n") == 1
