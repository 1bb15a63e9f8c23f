"""Benchmarks by name, each against a named baseline in the same run.

    python scripts/bench.py                                  # lists them
    python scripts/bench.py align-step --size mid --save     # and writes experiments/benchmarks/align-step-mid.md
    python scripts/bench.py libero-reading --json out.json --num_workers 2

A benchmark is a module in scripts/benchmarks/ with a docstring and `run(**options) -> dict`; underscores of its file
name are dashes here. The dict holds `rows` (list of dict, one per variant, with `name`), `baseline` (the `name` of the
row that ratios refer to), `measure` (the column that they are of; smaller is better unless `larger_is_better`), and
anything else to report. Further flags `--option value` are passed to `run`.
"""

import argparse
import ast
import importlib.util
import json
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks._record import to_markdown

from vla.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "scripts" / "benchmarks"


def find() -> dict[str, Path]:
    """Benchmarks by name."""
    return {path.stem.replace("_", "-"): path for path in sorted(FOLDER.glob("[!_]*.py"))}


def load(path: Path) -> ModuleType:
    """Import a benchmark from its file."""
    spec = importlib.util.spec_from_file_location(f"benchmarks_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path[:0] = [str(ROOT), str(FOLDER)]
    spec.loader.exec_module(module)
    return module


def parse_options(words: list[str]) -> dict[str, Any]:
    """`["--steps", "5", "--sizes=[1, 2]"]` -> {"steps": 5, "sizes": [1, 2]}; what is no Python literal is a string."""
    options: dict[str, Any] = {}
    words = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
    if len(words) % 2 or not all(word.startswith("--") for word in words[::2]):
        raise SystemExit(f"error: options of a benchmark are pairs --name value, got {shlex.join(words)}")
    for name, value in zip(words[::2], words[1::2], strict=True):
        try:
            options[name[2:].replace("-", "_")] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[name[2:].replace("-", "_")] = value
    return options


def add_ratios(result: dict[str, Any]) -> None:
    """Put each row's ratio against the baseline into the row: above 1 is better."""
    rows, measure = result.get("rows", []), result.get("measure")
    base = next((row[measure] for row in rows if row["name"] == result.get("baseline")), None)
    for row in rows if base is not None else ():
        row["ratio"] = row[measure] / base if result.get("larger_is_better") else base / row[measure]


def main() -> int:
    """Run the benchmark that the command line names; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=list(find()), help="benchmark; none: list them")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    parser.add_argument("--save", action="store_true", help="also write experiments/benchmarks/NAME-OPTIONS.md")
    arguments, rest = parser.parse_known_args()
    if arguments.name is None:
        for name, path in find().items():
            print(f"{name:24} {(ast.get_docstring(ast.parse(path.read_text())) or '').splitlines()[0]}")
        return 0
    options = parse_options(rest)
    try:
        module = load(find()[arguments.name])
        result = module.run(**options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    add_ratios(result)
    command = shlex.join(["python", "scripts/bench.py", arguments.name, *rest])
    text = to_markdown(arguments.name, module.__doc__ or "", result, command)
    print(text)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2, default=str) + "\n")
    if arguments.save:
        words = [arguments.name, *(str(value) for value in options.values() if "/" not in str(value))]
        path = ROOT / "experiments" / "benchmarks" / f"{'-'.join(words)}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(f"written to {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
