"""The sampler against the plain implementation that its benchmark times, and the benchmark itself."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.data.dealing import deal, longest_first
from vla.data.samplers import SplitModalitySampler

SCRIPT = Path(__file__).parents[2] / "scripts/benchmarks/split_modality_sampler.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_split_modality_sampler", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


benchmark = _load()
tables = st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=1, max_size=120)


@given(tables, st.integers(1, 7), st.integers(1, 5), st.integers(0, 3))
def test_same_stream_as_the_plain_implementation(table: list, ranks: int, per_rank: int, epoch: int) -> None:
    """Lengths of 0 and many ties, numbers of processes that are no powers of 2, batches larger than the data."""
    for rank in range(ranks):
        sampler = SplitModalitySampler(table, global_batch_size=ranks * per_rank, rank=rank, world_size=ranks, seed=5)
        sampler.set_position(epoch)
        assert list(sampler) == benchmark.plain_stream(table, ranks * per_rank, ranks, rank, 5, epoch)


def test_many_batches_are_cut_into_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    table = benchmark.lengths_of_the_published_shape(1000)
    whole = SplitModalitySampler(table, global_batch_size=12, world_size=3).global_order(1)
    for chunk in (1, 40, 100):
        monkeypatch.setattr("vla.data.samplers.CHUNK", chunk)
        assert np.array_equal(SplitModalitySampler(table, global_batch_size=12, world_size=3).global_order(1), whole)


@pytest.mark.parametrize("unit", [1, 10**6])  # numbers that fit 32 bits with all that is packed into them, and do not
def test_dealing_leaves_its_input_alone(unit: int) -> None:
    lengths = np.array([[5, 9, 0, 9, 2, 7]]) * unit
    given = lengths.copy()
    ordered, positions = longest_first(lengths)
    assert ordered.tolist() == [[9 * unit, 9 * unit, 7 * unit, 5 * unit, 2 * unit, 0]]
    assert positions.tolist() == [[1, 3, 5, 0, 4, 2]]
    kept = ordered.copy()
    assert deal(ordered, 2).tolist() == [[0, 3, 1, 4, 5, 2]]  # 9 + 7 + 0 and 9 + 5 + 2: 7 goes to the first of equals
    assert np.array_equal(ordered, kept) and np.array_equal(lengths, given)


def test_benchmark_runs() -> None:
    result = benchmark.run(examples=(300,), ranks=4, global_batch_size=16, repeats=1)
    plain, ours = result["rows"]
    assert plain["checksum"] == ours["checksum"] and plain["peak_mib"] > 0 and ours["ratio"] > 0
