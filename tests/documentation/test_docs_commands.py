"""Every command that the README, the documentation, the results and the recipes print is valid."""

import re

import pytest
from documented_commands import PAGES, RECIPES, ROOT, UnknownCommandError, blocks, check, of_page, of_recipe

from vla.commands.registry import COMMANDS as OF_VLA

COMMANDS = sorted({
    *(command for page in PAGES for command in of_page(page)),
    *(command for recipe in RECIPES for command in of_recipe(recipe)),
}, key=str)  # fmt: skip


def test_commands_are_found() -> None:
    pages = {command.page for command in COMMANDS}
    assert {"README.md", "docs/nanovlm.md", "experiments/nanovlm.yaml", "experiments/results/README.md"} <= pages
    assert any("--model.type vggt-llama-7b --stage align" in command.line for command in COMMANDS)
    assert len(COMMANDS) > 100


@pytest.mark.parametrize("page", sorted({command.page for command in COMMANDS}))
def test_documented_commands_are_valid(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    wrong = []
    for command in COMMANDS:
        if command.page != page or command.mark == "unchecked":
            continue
        try:
            check(command.line)
        except Exception as error:
            wrong.append(f"{command}\n    {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "line",
    [
        "vla train --model.type vggt-tinny",
        "python scripts/pretrain.py --model.align.learnin_rate 1",
        "torchrun --nproc_per_node 2 -m vla train --stage aline",
        "python scripts/nothing.py",
        "vla frobnicate",
        "vla data frobnicate",
        "python scripts/bench.py no-such-benchmark",
        "python scripts/bench.py packing --no_such_option 1",
        "python scripts/weights.py --no-such-flag",
        "pip install '.[no-such-extra]'",
        "sbatch experiments/slurm/none.sbatch",
        "bash scripts/quickstart.sh --no_such_field 1",
        'eval "$(vla completion tcsh)"',
        "vla list models | frobnicate",
    ],
)
def test_wrong_commands_are_found(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises((ValueError, RuntimeError)):
        check(line)


def test_unknown_programs_need_a_mark() -> None:
    with pytest.raises(UnknownCommandError, match="no rule for 'curl'"):
        check("curl localhost")
    text = "<!-- unchecked: another program -->\n```bash\ncurl localhost\n```\n\n```bash\nvla list\n```\n"
    assert [*blocks(text)] == [("unchecked", "curl localhost\n"), ("", "vla list\n")]


def test_every_command_of_vla_is_named() -> None:
    page = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `vla (\w+)` \|", page, re.MULTILINE) == [command.name for command in OF_VLA]
