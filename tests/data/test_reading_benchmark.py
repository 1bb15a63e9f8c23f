"""The reading benchmark: both readers give the same samples, and the result has the form of the others."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from libero_files import COMPRESSED, write_task

SCRIPT = Path(__file__).parents[2] / "scripts/benchmarks/libero_reading.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_libero_reading", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("layout", ["compressed", "official"])
def test_runs(tmp_path: Path, benchmark: ModuleType, layout: str) -> None:
    write_task(tmp_path, lengths=(30, 30), image_options=COMPRESSED)
    result = benchmark.run(layout, str(tmp_path), num_workers=0, naive_samples=32, turns=1)
    assert [row["name"] for row in result["rows"]][0] == result["baseline"]
    assert all(row[result["measure"]] > 0 for row in result["rows"])


def test_unknown_layout(benchmark: ModuleType) -> None:
    with pytest.raises(ValueError, match="layout: must be"):
        benchmark.run("zipped")
