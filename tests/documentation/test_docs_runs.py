"""The tutorials' commands run: those in blocks marked `<!-- runs -->`, one after the other, with shorter training."""

import importlib.util
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from documented_commands import CONFIGS_OF_SCRIPTS, PAGES, ROOT, of_page

from vla.commands.main import main
from vla.conf import cli

SHORTER = "--evaluation.max_batches 1 --report false --loader.num_workers 0 --device cpu"
ONE_TASK = "--dataset.tasks pick_up_the_milk_and_place_it_in_the_basket"  # of the demonstrations that ship
RUN = {
    str(page.relative_to(ROOT)): [command.line for command in of_page(page) if command.mark == "runs"] for page in PAGES
}
RUN = {page: lines for page, lines in RUN.items() if lines}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to be in, with the recipes and data that commands name."""
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def shorter(words: list[str]) -> list[str]:
    """A command that trains, with two steps, on little data."""
    if words[0] != "train" or "--dry_run" in words:
        return words
    stage = words[words.index("--stage") + 1].replace("-", "_")
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
    program, *words = shlex.split(line)
    if program == "vla":
        return main(shorter(words))
    name = Path(words[0]).stem
    return cli.run(CONFIGS_OF_SCRIPTS[name], script(name).main, words[1:])


def test_there_are_tutorials_that_run() -> None:
    assert len(RUN) >= 3


@pytest.mark.parametrize("page", RUN)
def test_commands_of_a_page_run(page: str, folder: Path) -> None:
    for line in RUN[page]:
        assert run(line) == 0, f"{page}: {line}"
