"""The report of an anomaly detector: metrics by class, notes and sheets of pictures."""

import json
from pathlib import Path

import pytest
from PIL import Image

from vla.evaluation.anomaly.results import METRICS
from vla.reporting import write_report


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "a-run" / "evaluation"
    (folder / "pictures").mkdir(parents=True)
    Image.new("RGB", (60, 40), (200, 30, 30)).save(folder / "pictures/wood.jpg")
    values = {name: 0.5 + number / 100 for number, name in enumerate(METRICS)}
    rows = [
        {"class": "wood", "good": 3, "defective": 4, **values},
        {"class": "<capsule>", "good": 2, "defective": 0, **dict.fromkeys(METRICS)},
        {"class": "mean", "good": 5, "defective": 4, **values},
    ]
    metrics = {
        "loss": 0.1, **values, "classes": rows, "notes": ["<capsule>: no picture of a defect"], "num_samples": 9,
        "sheets": {"wood": "pictures/wood.jpg", "<capsule>": "pictures/gone.jpg"}, "checkpoint": "step-000004",
        "seconds": 1.0,
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return tmp_path / "a-run"


def test_table_notes_and_sheets(run_dir):
    page = write_report(run_dir).read_text()
    assert "AUPRO (30 %)" in page and "9 held-out pictures, step-000004" in page
    assert page.count("data:image/jpeg;base64,") == 1 and "evaluation/pictures/gone.jpg" in page
    assert "&lt;capsule&gt;: no picture of a defect." in page and "<capsule>" not in page
    assert '<td class="number">55.0</td>' in page and '<td class="number">–</td>' in page
    assert "mean over classes" in page and "55.0%" in page  # the headline
    assert "image auroc" not in page  # no second list of the same numbers


def test_other_runs_have_no_such_section(run_dir):
    (run_dir / "evaluation/metrics.json").write_text('{"num_actions": 3}')
    assert "Defects found" not in write_report(run_dir).read_text()
