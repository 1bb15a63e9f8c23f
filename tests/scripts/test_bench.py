"""The benchmark script: options, ratios, records."""

import json
import sys
from pathlib import Path

import pytest

from vla.conf.datasets import SHIPPED_DATA

SCRIPTS = SHIPPED_DATA.parents[1] / "scripts"
BENCHMARK = '''"""Counts.

More about it.
"""


def run(steps: int = 1, label: str = "x") -> dict:
    rows = [{"name": "slow", "seconds": 3.0 * steps}, {"name": "fast", "seconds": 1.5 * steps}]
    return {"rows": rows, "baseline": "slow", "measure": "seconds", "label": label}
'''


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """scripts/bench.py as a module, with one benchmark of its own."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import bench

    (tmp_path / "scripts" / "benchmarks").mkdir(parents=True)
    (tmp_path / "scripts" / "benchmarks" / "some_thing.py").write_text(BENCHMARK)
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr(bench, "FOLDER", tmp_path / "scripts" / "benchmarks")
    monkeypatch.setattr(sys, "path", list(sys.path))
    return bench


def _main(bench, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["bench.py", *words])
    return bench.main()


def test_lists_benchmarks(bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    assert _main(bench, monkeypatch) == 0
    assert capsys.readouterr().out.split() == ["some-thing", "Counts."]


def test_record_has_ratios_and_all_that_repeats_it(bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert _main(bench, monkeypatch, "some-thing", "--steps", "2", "--label=mid", "--save", "--json", str(out)) == 0
    result = json.loads(out.read_text())
    assert [row["ratio"] for row in result["rows"]] == [1.0, 2.0] and result["rows"][0]["seconds"] == 6.0
    record = (tmp_path / "experiments" / "benchmarks" / "some-thing-2-mid.md").read_text()
    assert "- command: `python scripts/bench.py some-thing --steps 2 --label=mid`" in record
    assert "| fast | 3 | 2 |" in record and "torch 2" in record and "cores" in record


def test_ratio_of_a_rate(bench) -> None:
    rows = [{"name": "a", "rate": 10.0}, {"name": "b", "rate": 50.0}]
    bench.add_ratios({"rows": rows, "baseline": "a", "measure": "rate", "larger_is_better": True})
    assert [row["ratio"] for row in rows] == [1.0, 5.0]


def test_options_that_are_no_pairs_are_refused(bench) -> None:
    assert bench.parse_options(["--a-b", "[1, 2]", "--c=tiny"]) == {"a_b": [1, 2], "c": "tiny"}
    for words in (["--a"], ["a", "1"]):
        with pytest.raises(SystemExit, match="pairs"):
            bench.parse_options(words)


def test_an_unknown_benchmark_lists_the_known(bench, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    with pytest.raises(SystemExit):
        _main(bench, monkeypatch, "other")
    assert "some-thing" in capsys.readouterr().err


def test_every_shipped_benchmark_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "path", list(sys.path))
    import bench

    assert {"align-step", "libero-reading", "quickstart-data-wait"} <= set(bench.find())
    for path in bench.find().values():
        module = bench.load(path)
        assert callable(module.run) and module.__doc__


def test_data_wait_of_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "path", list(sys.path))
    import bench

    module = bench.load(bench.find()["quickstart-data-wait"])
    with pytest.raises(SystemExit, match="quickstart.sh"):
        module.run(str(tmp_path))
    rows = [
        {"global_step": 10, "train/data_wait": 0.5, "train/step_time": 1.0},
        {"global_step": 30, "train/data_wait": 0.0, "train/step_time": 2.0},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = module.run(str(tmp_path))
    assert result["data_wait"] == pytest.approx(0.1) and result["step_s"] == pytest.approx(50 / 30)
    assert not result["within_limit"] and result["optimizer_steps"] == 30
