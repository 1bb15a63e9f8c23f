"""`vla bench`: the benchmarks of a checkout of the repository (scripts/bench.py), which an installed copy has not."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from vla.commands.program import Resolved

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


class BenchProgram:
    """Runs `scripts/bench.py` of the checkout that this package is in; see `vla.commands.program.Program`."""

    def run(self, words: Sequence[str], program: str | None = None) -> int:
        """Run the benchmark that the words name, or list all; returns the exit code."""
        spec = importlib.util.spec_from_file_location("bench", SCRIPTS / "bench.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.path.insert(0, str(SCRIPTS))
        sys.modules["bench"] = module
        sys.argv = [program or "bench.py", *words]
        spec.loader.exec_module(module)
        return int(module.main())

    def resolve(self, words: Sequence[str]) -> Resolved | None:
        """None: benchmarks have options of their own."""
        return None

    def names(self) -> dict[str, str]:
        """Benchmarks, and the first line of what each says about itself."""
        files = sorted((SCRIPTS / "benchmarks").glob("[!_]*.py"))
        return {path.stem.replace("_", "-"): _first_line(path) for path in files}


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


PROGRAM = BenchProgram()
