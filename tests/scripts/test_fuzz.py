"""Damaged and forged files against every reader: the inputs of `python scripts/bench.py fuzz`, chosen by hypothesis.

Each gives a value or the documented error, within bounded memory.
"""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.errors import UserError

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "scripts" / "benchmarks"))

import _robot_readers  # noqa: E402, F401 - for their part of TARGETS
from _forged import ACCEPTED, REFUSED, TARGETS, Target, damage, judge, make_target  # noqa: E402 - found so
from _weight_readers import MARK  # noqa: E402 - and with it all of TARGETS

KILOBYTES = 2**19  # by which the largest memory of this process may grow: half a GiB


@pytest.fixture(scope="module", params=TARGETS)
def target(request, tmp_path_factory) -> Target:
    return make_target(request.param, tmp_path_factory.mktemp("valid"))


@given(chance=st.randoms(use_true_random=False), content=st.none() | st.binary(max_size=400))
def test_a_value_or_an_error_of_one_line(target, chance, content):
    """Of mutated valid files, and of arbitrary bytes."""
    path = Path(target.name)
    path.write_bytes(damage(target, chance) if content is None else content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert judge(target, path) in (ACCEPTED, REFUSED)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < KILOBYTES
    assert not (path.parent / MARK).exists()


def test_what_is_neither_is_told(tmp_path):
    """An error of another kind, one of two lines, and a reader that gives up the interpreter."""

    for error, expected in (
        (None, ACCEPTED), (UserError("no"), REFUSED), (UserError("a\nb"), "not one line: 'a\\nb'"),
        (UserError(""), "not one line: ''"), (KeyError("x"), "KeyError: 'x'"), (SystemExit(3), "SystemExit: 3"),
    ):  # fmt: skip

        def read(path: Path, error: BaseException | None = error) -> None:
            if error is not None:
                raise error

        assert judge(Target((b"",), "file", read), tmp_path / "file") == expected


def test_the_bench(tmp_path):
    """In a program of its own, which forks the processes that read."""
    found, names = tmp_path / "found.json", ["HDF5 demonstrations", "Prismatic's checkpoint"]
    command = [sys.executable, str(ROOT / "scripts/bench.py"), "fuzz", "--inputs", "400", "--json", str(found)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--only", repr(names)], env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(found.read_text())
    assert result["crashes"] == 0, [row["first_crash"] for row in result["rows"]]
    assert not result["code_executed"] and result["inputs"] == 400
    assert [row["name"] for row in result["rows"]] == names
    for row in result["rows"]:
        assert row["accepted"] + row["refused"] == 200 and row["refused"] > 20, row
