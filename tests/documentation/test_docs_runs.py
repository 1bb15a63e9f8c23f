"""The documented commands run: those in blocks marked `<!-- runs -->`, page by page, with shorter training."""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from documented_commands import COMMANDS_OF_SCRIPTS, CONFIGS_OF_SCRIPTS, PAGES, ROOT, blocks, join_lines, of_page

from vla.commands.doctor import BROKEN
from vla.commands.main import main
from vla.conf import cli

SHORTER = "--evaluation.max_batches 1 --report false --loader.num_workers 0 --device cpu"
ONE_TASK = "--dataset.tasks pick_up_the_milk_and_place_it_in_the_basket"  # of the demonstrations that ship
QUICKSTART = "train --config_path experiments/quickstart.yaml --resume auto".split()
RUN_ELSEWHERE = {"bash scripts/test.sh": ".ci/run"}
TRANSLATED = "README.zh.md"  # with the commands of README.md: test_translation.py
RUN = {
    str(page.relative_to(ROOT)): [command.line for command in of_page(page) if command.mark == "runs"]
    for page in PAGES
    if page.name != TRANSLATED
}
RUN = {page: lines for page, lines in RUN.items() if lines}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to be in, with the recipes and data that commands name."""
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def shorter(words: list[str]) -> list[str]:
    """A command of `vla`: with two steps and little data, where it trains; without the network, where it diagnoses."""
    if words[0] == "doctor":
        return [*words, "--network", "false"]
    if words[0] == "evaluate" and "--questions" not in words:
        return [*words, "--max_batches", "1"]
    if words[0] != "train" or {"--dry_run", "--help"} & {*words}:
        return words
    stage = words[words.index("--stage") + 1].replace("-", "_") if "--stage" in words else "full_finetune"
    data = "" if "--dataset.root" in words else ONE_TASK
    return [*words, *f"--model.{stage}.max_steps 2 {SHORTER} {data}".split()]


def script(name: str) -> ModuleType:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(line: str) -> int:
    """Run a command in this process; returns its exit code."""
    if inner := re.search(r"\$\((.*)\)", line):  # eval "$(...)"
        return run(inner[1])
    program, *words = shlex.split(line)
    if program == "source":  # this is the environment
        return 0
    if line == "bash scripts/quickstart.sh":
        return main(shorter(QUICKSTART))
    if program == "vla":
        return _main(shorter(words))
    name = Path(words[0]).stem
    if name in COMMANDS_OF_SCRIPTS:
        return _main(shorter([COMMANDS_OF_SCRIPTS[name], *words[1:]]))
    short = ["--range_steps", "4", "--loader.num_workers", "0"] if name == "lr_range_test" else []
    return cli.run(CONFIGS_OF_SCRIPTS[name], script(name).main, [*words[1:], *short])


def _main(words: list[str]) -> int:
    try:
        return main(words)
    except SystemExit as end:  # of --help
        return int(end.code or 0)


def test_there_are_tutorials_that_run() -> None:
    assert len([page for page in RUN if page.startswith("docs/tutorials")]) == 5


@pytest.mark.parametrize("page", sorted(map(str, (page.relative_to(ROOT) for page in PAGES))))
def test_every_block_runs_or_says_what_it_needs(page: str) -> None:
    for mark, block in blocks((ROOT / page).read_text(encoding="utf-8")):
        if not mark:
            assert {*join_lines(block).splitlines()} <= {*RUN_ELSEWHERE}, f"{page}: mark this block:\n{block}"


@pytest.mark.parametrize("page", RUN)
def test_commands_of_a_page_run(page: str, folder: Path) -> None:
    for line in RUN[page]:
        passed = (0, BROKEN) if line.startswith("vla doctor") else (0,)  # what it finds is this machine's affair
        assert run(line) in passed, f"{page}: {line}"
