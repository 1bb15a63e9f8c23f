"""report.html: complete, self-contained, safe, and never in the way of a broken run."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from html_page import Page

from vla.reporting import write_report
from vla.reporting.history import read_history
from vla.reporting.run_folder import read_run
from vla.reporting.summary import count, duration, progress_note

ALL_FILES = (
    "config.yaml", "parameters.json", "environment.json", "metrics.jsonl", "evaluation/metrics.json",
    "evaluation/episode.npz",
)  # fmt: skip


def test_report_is_complete(run_dir: Path) -> None:
    page = write_report(run_dir).read_text()
    for text in ("a-run", "vggt-tiny · libero-mini · full-finetune", "Loss", "Learning rate", "Gradient norm"):
        assert text in page
    for text in (
        "vision_backbone", "frozen", "trainable", "waiting for data", "95th percentile", "2.13.0", "61.2 GiB", "43.1%",
        "18,234 tokens/s", "Model FLOPs utilisation",
    ):  # fmt: skip
        assert text in page
    for name in ("x", "y", "z", "rotation x", "rotation y", "rotation z", "gripper"):
        assert f"{name} (" in page
    assert page.count("data:image/png;base64,") == 12  # two cameras, six moments
    assert 'class="notes"' not in page


def test_report_loads_nothing_from_elsewhere(run_dir: Path) -> None:
    page = write_report(run_dir).read_text()
    loads = Page(page).loads
    assert loads and all(load.startswith(("data:image/png", "#")) for load in loads)
    assert "<script" not in page and "@import" not in page
    assert not re.search(r"url\((?!#)", page)
    assert str(run_dir.parent) not in page


def test_ids_of_the_figures_do_not_collide(run_dir: Path) -> None:
    ids = re.findall(r' id="([^"]+)"', write_report(run_dir).read_text())
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", ALL_FILES)
def test_a_missing_or_broken_file_is_said_in_words(run_dir: Path, name: str) -> None:
    (run_dir / name).write_bytes(b"{\x00 broken: [")
    assert any(name in note for note in read_run(run_dir).notes)
    (run_dir / name).unlink()
    assert [note for note in read_run(run_dir).notes if note.endswith(f"there is no {name}.")]


def test_a_folder_of_broken_files_gives_a_page(run_dir: Path) -> None:
    for name in ALL_FILES:
        (run_dir / name).write_bytes(b"{\x00 broken: [")
    page = write_report(run_dir).read_text()
    assert all(name in page for name in ALL_FILES)


def test_an_empty_folder_gives_a_page(tmp_path: Path) -> None:
    page = write_report(tmp_path).read_text()
    assert "No training step was logged." in page and "Nothing was logged" in page


def test_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_report(tmp_path / "nowhere")


def test_everything_from_data_is_escaped(run_dir: Path) -> None:
    attack = '</script><script>alert("1")</script><img src=x onerror=y>'
    path = run_dir / "evaluation" / "episode.npz"
    data = dict(np.load(path))
    data |= {"instruction": attack, "label": attack, "names": [attack] * 7, "cameras": [attack] * 2}
    np.savez_compressed(path, **data)
    (run_dir / "config.yaml").write_text(f"note: '{attack}'")
    (run_dir / "environment.json").write_text(json.dumps({attack: attack}))
    (run_dir / "parameters.json").write_text(json.dumps([{"name": attack, "total": 1, "trainable": 0}]))
    (run_dir / "metrics.jsonl").write_text(json.dumps({"global_step": 1, f"train/{attack}": 1.0}))
    page = write_report(run_dir).read_text()
    assert "<script" not in page and "<img src=x" not in page and "&lt;img src=x" in page


def test_an_interrupted_run_says_where_it_ended(run_dir: Path) -> None:
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    (run_dir / "metrics.jsonl").write_text("\n".join(lines[:30]) + '\n{"global_st')
    notes = write_report(run_dir).read_text().split("<main>")[0]
    assert "of 4: stopped early, interrupted, or still running" in notes
    assert "1 lines of metrics.jsonl can&#39;t be read" in notes


def test_late_evaluations_have_figures_in_the_order_of_steps(run_dir: Path) -> None:
    with (run_dir / "metrics.jsonl").open("a") as file:
        for step, value in ((40, 0.75), (20, 0.25)):
            file.write(json.dumps({"global_step": step, "questions/all_accuracy": value}) + "\n")
    assert "all accuracy" in write_report(run_dir).read_text()
    found = read_history(run_dir / "metrics.jsonl").series["questions/all_accuracy"].by_step
    assert found.steps.tolist() == [20, 40] and found.values.tolist() == [0.25, 0.75]


def test_max_steps_decide_before_epochs(run_dir: Path) -> None:
    config = run_dir / "config.yaml"
    config.write_text(config.read_text().replace("epochs: 4", "epochs: 9\n    max_steps: 400"))
    assert progress_note(read_run(run_dir)) == ""


def test_values_that_are_not_finite_are_reported(run_dir: Path) -> None:
    with (run_dir / "metrics.jsonl").open("a") as lines:
        lines.write('{"global_step": 401, "train/loss": NaN}\n')
    page = write_report(run_dir).read_text()
    assert "train/loss is not finite in 1 log entries, first at step 401" in page


def test_only_values_that_are_not_finite(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"global_step": 1, "train/loss": NaN, "train/learning_rate": NaN}\n')
    write_report(tmp_path)


def test_a_huge_log_gives_a_small_page(tmp_path: Path) -> None:
    with (tmp_path / "metrics.jsonl").open("w") as lines:
        for step in range(100_000):
            lines.write(f'{{"global_step": {step}, "train/loss": {1 + step % 7}, "train/grad_norm": 1.5}}\n')
    path = write_report(tmp_path)
    assert path.stat().st_size < 500_000


def test_the_same_run_gives_the_same_page(run_dir: Path) -> None:
    assert write_report(run_dir).read_text() == write_report(run_dir).read_text()


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (999, "999"), (12_345, "12.3 k"), (2_300_000, "2.3 M"), (7.1e9, "7.1 G")]
)
def test_count(number: float, text: str) -> None:
    assert count(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0123, "12.3 ms"), (4.5, "4.5 s"), (300, "5 min"), (3725, "62 min"), (7500, "2 h 05 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
