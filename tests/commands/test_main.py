"""The command `vla`: finds its commands, shows them, and is light."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import vla
from vla.commands import registry
from vla.commands.main import main
from vla.commands.program import ByFlag, Menu

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "numpy", "transformers", "timm", "h5py", "torchvision", "matplotlib", "pandas", "rich", "PIL"}


def test_help_lists_what_is_there(capsys) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: vla COMMAND")
    for command in registry.COMMANDS:
        assert (f"\n   {command.name} " in text) == command.exists
    assert {"train", "evaluate", "chat", "data", "convert", "bench", "completion"} <= set(registry.available_commands())
    assert main([]) == 0 and capsys.readouterr().out == text


def test_a_command_without_its_module_does_not_appear(monkeypatch, capsys) -> None:
    commands = (*registry.COMMANDS[:2], registry.Command("fly", "lift off", "fly"))
    monkeypatch.setattr(registry, "COMMANDS", commands)
    assert list(registry.available_commands()) == ["train", "evaluate"]
    assert main(["fly"]) == 2
    assert capsys.readouterr().err.startswith("error: command: must be one of ")


def test_version(capsys) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"vla {vla.__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("trian", "command: must be one of train, "),
        ("--steps 3", "command: must be one of "),
        ("train --stage foo", "stage: must be one of "),
        ("evaluate", "checkpoint: must name a run or checkpoint folder, got None"),
        ("evaluate --suite nowhere", "suite: must be one of "),
        ("data records", "command: must be one of record, "),
        ("convert export", "checkpoint: must name a run or checkpoint folder, got None"),
        ("completion fish", "shell: must be one of bash, zsh, got 'fish'"),
    ],
)
def test_wrong_words_are_one_line(capsys, words: str, message: str) -> None:
    assert main(words.split()) == 2
    output = capsys.readouterr()
    assert output.err.startswith(f"error: {message}") and output.err.count("\n") == 1 and not output.out


def test_a_benchmark_needs_a_checkout(monkeypatch, tmp_path: Path, capsys) -> None:
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "site-packages" / "vla" / "commands" / "registry.py"))
    assert "bench" not in registry.available_commands()
    assert main(["bench"]) == 2
    assert "'bench' needs a checkout of the repository (scripts/bench.py)" in capsys.readouterr().err


@pytest.mark.parametrize("name", [command.name for command in registry.COMMANDS if command.exists])
def test_help_of_every_command_names_it_and_imports_nothing_heavy(name: str) -> None:
    program = (
        f"import sys; from vla.commands.main import main\ntry: code = main([{name!r}, '--help'])\n"
        f"except SystemExit as end: code = end.code\nprint(code, sorted(set({sorted(HEAVY)}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"usage: vla {name}") and done.stdout.splitlines()[-1] == "0 []"


@pytest.mark.parametrize("script", ["pretrain", "evaluate", "generate", "data", "convert", "doctor"])
def test_scripts_have_no_code_of_their_own(script: str) -> None:
    path = ROOT / "scripts" / f"{script}.py"
    if not path.exists():
        pytest.skip("no such script")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert sum(isinstance(node, ast.FunctionDef) for node in ast.walk(tree)) <= 1
    assert any(
        isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vla.commands.") for node in tree.body
    )


def test_every_example_is_valid() -> None:
    for command in registry.available_commands().values():
        words = command.example.split()
        assert words[0] == command.name
        program = command.load()
        if isinstance(program, Menu):
            assert program.resolve(words[1:]) is not None
        elif isinstance(program, ByFlag):
            assert program.resolve(words[1:]).action is program.default


def test_the_module_runs_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vla", "train", "--stage", "foo"], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "RANK": "1", "WORLD_SIZE": "2"},
    )  # fmt: skip
    assert done.returncode == 2 and not done.stderr  # of many processes only the first complains
