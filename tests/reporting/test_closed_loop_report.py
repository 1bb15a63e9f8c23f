"""Success rates and films on the report's page."""

import json
from pathlib import Path

from vla.reporting import write_report

RATE = {"successes": 3, "episodes": 4, "errors": 1, "distinct_initial_states": 4, "mean_steps": 90.0, "rate": 0.75}
ROW = {**RATE, "low": 0.30, "high": 0.954}


def write_results(run_dir: Path, **changes) -> Path:
    folder = run_dir / "evaluation" / "libero_object"
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    (folder / "videos" / "a.mp4").write_bytes(b"film")
    task = {
        "index": 7,
        "language": "pick up the <milk>",
        "videos": {"success": ["videos/a.mp4"], "failure": ["videos/b.gif"]},
    }
    results = {
        "suite": "libero_object", "policy": {"name": "a policy"}, "instructions": "task",
        "protocol": {"horizon": 280, "execute_steps": 8, "ensemble": None}, "versions": {"simulator mujoco": "3.2.3"},
        "audit": [{"name": "golden-frame", "status": "passed", "detail": "mean picture error 0.0"}],
        "overall": ROW, "tasks": [{**task, **ROW}],
    }  # fmt: skip
    (folder / "results.json").write_text(json.dumps({**results, **changes}))
    return folder


def test_rates_and_films_are_shown(run_dir: Path) -> None:
    write_results(run_dir)
    page = write_report(run_dir).read_text()
    for text in ("libero_object", "3/4", "75.0%", "30.0% – 95.4%", "pick up the &lt;milk&gt;", "golden-frame"):
        assert text in page
    assert '<video src="data:video/mp4;base64,ZmlsbQ=="' in page
    assert "evaluation/libero_object/videos/b.gif" in page  # not there, so only named
    assert "media-src data:" in page


def test_what_was_not_as_usual_is_in_the_heading(run_dir: Path) -> None:
    write_results(run_dir, options={"execute_steps": 4, "ensemble": 0.1})
    assert "In the simulator: libero_object, execute_steps 4, ensemble 0.1</h2>" in write_report(run_dir).read_text()


def test_broken_results_are_said(run_dir: Path) -> None:
    write_results(run_dir, overall={})
    page = write_report(run_dir).read_text()
    assert "evaluation/libero_object/results.json can&#39;t be read" in page


def test_large_film_is_only_named(run_dir: Path) -> None:
    folder = write_results(run_dir)
    (folder / "videos" / "a.mp4").write_bytes(bytes(3 * 2**20))
    page = write_report(run_dir).read_text()
    assert "<video" not in page and "videos/a.mp4" in page


def test_contact_sheet_is_shown_where_the_results_name_one(run_dir: Path) -> None:
    folder = write_results(run_dir, contact_sheet="contact_sheet.jpg")
    assert "data:image/jpeg" not in write_report(run_dir).read_text()  # named, but not there
    (folder / "contact_sheet.jpg").write_bytes(b"sheet")
    assert '<img src="data:image/jpeg;base64,c2hlZXQ="' in write_report(run_dir).read_text()
    write_results(run_dir)
    assert "data:image/jpeg" not in write_report(run_dir).read_text()  # of an evaluation before


def test_watcher_and_its_curves_are_shown(run_dir: Path) -> None:
    alarms = {"episodes": 20, "frames": 400, "episode_share": 0.05, "frame_share": 0.0125}
    none = {"episodes": 0, "frames": 0, "episode_share": None, "frame_share": None}
    found = {
        "episodes": 18, "frames": 300, "frame_auroc": 0.98765, "episode_auroc": None, "missed_share": 0.25,
        "early_share": 0.0, "median_delay": 4.0,
    }  # fmt: skip
    watching = {
        "watcher": {"name": "<uniad>", "threshold": {
            "value": 0.123456789, "false_alarm_rate": 0.1, "per": "episode", "episodes": 40}},
        "action": "observe",
        "normal": {"success": ROW, "stopped": 0, "picture": "watching/nothing.png",
                   "false_alarms": {"all": alarms, "successes": none}},
        "faults": [{"fault": "blur:0.5", "success": ROW, "stopped": 2, "detection": found, "picture": ""}],
    }  # fmt: skip
    folder = write_results(run_dir, watching=watching)
    (folder / "watching").mkdir()
    (folder / "watching" / "nothing.png").write_bytes(b"curve")
    page = write_report(run_dir).read_text()
    for text in (
        "libero_object, watched",
        "&lt;uniad&gt;",
        "0.123457",
        "10.0 % false alarms",
        "5.0 % of 20",
        "blur:0.5",
        "0.988",
        "25.0 %",
    ):
        assert text in page, text
    assert '<img src="data:image/png;base64,Y3VydmU="' in page
