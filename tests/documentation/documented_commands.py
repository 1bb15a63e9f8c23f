"""The commands that the documentation prints, and what has to hold for each of them.

A command stands in a fenced block of bash, in a table or sentence between backticks, or in the header of a recipe.
Whatever starts a program of this repository is parsed by that program. Of other programs the ones in `OTHERS` are
known, each with a check of what can be checked; anything else has to be marked, by a comment right above its block:

    <!-- unchecked: why no test can say whether it works -->

Two other marks: `<!-- needs: a GPU -->` tells readers (the site shows it) that a test only parses the block, and
`<!-- runs -->` that tests/documentation/test_docs_runs.py executes it, shortened.
"""

import ast
import importlib.util
import io
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla.commands.registry import available_commands
from vla.conf import cli
from vla.conf.anomaly_baselines import BaselinesConfig
from vla.conf.lr_range_test import LRRangeTestConfig

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "experiments/**/*.md")
    for path in ROOT.glob(pattern)
    if not {"egg-info", "runs"} & set(path.parts)
)
RECIPES = sorted([*(ROOT / "experiments").glob("*.yaml"), *(ROOT / "experiments" / "slurm").iterdir()])
COMMANDS_OF_SCRIPTS = {
    "pretrain": "train", "evaluate": "evaluate", "serve": "serve", "generate": "chat", "data": "data",
    "convert": "convert", "doctor": "doctor",
}  # fmt: skip
CONFIGS_OF_SCRIPTS = {"lr_range_test": LRRangeTestConfig, "anomaly_baselines": BaselinesConfig}
MARKS = ("needs", "runs", "unchecked")


class UnknownCommandError(ValueError):
    """Nobody has said how to tell whether such a command works."""


@dataclass(frozen=True)
class Command:
    """A command as it is printed.

    Attributes:
        page: path below the repository.
        line: the command in one line, without its comment.
        mark: "", needs, runs or unchecked.
    """

    page: str
    line: str
    mark: str = ""

    def __str__(self) -> str:
        return f"{self.page}: {self.line}"


def join_lines(text: str) -> str:
    """With commands that go on in the next line, of a comment too, in one."""
    return re.sub(r"\\\n#? *", "", text)


def strip_comment(line: str) -> str:
    """A line of shell without its comment; a `#` inside of quotes or words is none."""
    lexer = shlex.shlex(line, posix=False)
    lexer.whitespace_split, lexer.commenters = True, "#"
    words = [*lexer]
    end = 0
    for word in words:
        end = line.index(word, end) + len(word)
    return line[:end].strip()


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """The fenced blocks of bash, indented ones too: the mark above each, and its text."""
    pattern = r"^(?: *<!-- (\w+)(?::[^>\n]*)? -->\n+)?( *)```bash\n(.*?)^\2```$"
    for match in re.finditer(pattern, text, re.DOTALL | re.MULTILINE):
        yield match[1] or "", match[3]


def of_page(path: Path) -> Iterator[Command]:
    """All commands of a page in Markdown, in order."""
    page, text = str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    for mark, block in blocks(text):
        if mark and mark not in MARKS:
            raise ValueError(f"{page}: a block is marked {mark!r}; known are {', '.join(MARKS)}")
        for line in join_lines(block).splitlines():
            if stripped := strip_comment(line.strip()):
                yield Command(page, stripped, mark)
    prose = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
    for match in re.finditer(r"`((?:python scripts/|torchrun scripts/|bash scripts/|vla )[^`]+)`", prose):
        line = match[1].replace("\n", " ")
        if not re.search(r"\.\.\.|<TAB>|\|(?=\w)|\{", line):  # what is meant as a pattern, not as a command
            yield Command(page, line if re.search(r"\s", _strip_program(line)) else f"{line} --help")


def _strip_program(line: str) -> str:
    """A command line without the program that runs the script: "python scripts/a.py --b" -> "scripts/a.py --b"."""
    return re.sub(r"^(vla|python|torchrun|bash) ", "", line)


def of_recipe(path: Path) -> Iterator[Command]:
    """The commands in the comments of a recipe or batch script."""
    text = join_lines(path.read_text(encoding="utf-8"))
    for match in re.finditer(r"^#\s+((?:python|torchrun|sbatch|vla) .*)$", text, re.MULTILINE):
        yield Command(str(path.relative_to(ROOT)), match[1])


def check(line: str) -> None:
    """Raise unless a command is one that works, as far as can be told without running it.

    Raises:
        UnknownCommandError: there is no rule for such a command.
        Exception: the rule is broken; the message says how.
    """
    for words in _simple_commands(line):
        _check_words(words)


def _simple_commands(line: str) -> Iterator[list[str]]:
    """The commands of a pipeline or list, each as words without assignments in front."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word in ("|", "&&", ";", "||", "&"):
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words:
                yield words
            words = []
        else:
            words.append(word)


def _check_words(words: list[str]) -> None:
    first, *rest = words
    if first == "vla":
        _check_vla(rest)
    elif first in ("python", "python3"):
        _check_python(rest)
    elif first == "torchrun":
        _check_python(_after_options(rest, flags=("--standalone",)))
    elif first in OTHERS:
        OTHERS[first](rest)
    else:
        raise UnknownCommandError(f"no rule for {first!r}; mark its block, or add a rule to {Path(__file__).name}")


def _check_vla(words: list[str]) -> None:
    """A command line of `vla` is parsed by the command's own parser."""
    if not words or words[0].startswith("-"):
        return
    commands = available_commands()
    if words[0] not in commands:
        raise ValueError(f"there is no command vla {words[0]}")
    if words[0] == "bench":
        _check_benchmark(words[1:])
        return
    resolved = commands[words[0]].load().resolve(words[1:])
    if resolved is None:
        if words[1:] and not words[1].startswith("-"):
            raise ValueError(f"vla {words[0]} knows no {words[1]!r}")
        return
    _parse(resolved.action.config_class, resolved.action.flags(resolved.words))


def _check_python(words: list[str]) -> None:
    if words[:2] == ["-m", "vla"]:
        _check_vla(words[2:])
        return
    if words[0] == "-m":
        if importlib.util.find_spec(words[1]) is None:
            raise ValueError(f"there is no module {words[1]}")
        return
    script, options = ROOT / words[0], words[1:]
    if not script.is_file():
        raise ValueError(f"there is no file {words[0]}")
    name = script.stem
    if script.parent.name == "scripts" and name in COMMANDS_OF_SCRIPTS:
        _check_vla([COMMANDS_OF_SCRIPTS[name], *options])
    elif name in CONFIGS_OF_SCRIPTS:
        _parse(CONFIGS_OF_SCRIPTS[name], options)
    elif name == "bench":
        _check_benchmark(options)
    elif name == "custom_strategy":
        _check_custom_strategy(script, options)
    else:
        _check_argparse(script, options)


def _parse(config_class: type, words: list[str]) -> None:
    try:
        with redirect_stdout(io.StringIO()):  # --help
            cli.parse(config_class, words)
    except SystemExit as stop:
        if stop.code:
            raise ValueError(f"exits with {stop.code}") from None


def _check_benchmark(words: list[str]) -> None:
    """The benchmark is there, and takes the options."""
    if not words or words[0] == "--help":
        return
    path = ROOT / "scripts" / "benchmarks" / f"{words[0].replace('-', '_')}.py"
    if not path.is_file():
        raise ValueError(f"there is no benchmark {words[0]}")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    (run,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run"]
    known = {argument.arg for argument in [*run.args.args, *run.args.kwonlyargs]} | {"json", "save"}
    for word in words[1:]:
        if word.startswith("--") and (name := word[2:].partition("=")[0].replace("-", "_")) not in known:
            if run.args.kwarg is None:
                raise ValueError(f"benchmark {words[0]} has no option {name}")


def _check_custom_strategy(script: Path, options: list[str]) -> None:
    """The example's strategy is registered before its words are parsed, as it does itself."""
    from vla.conf.pretrain import PretrainConfig
    from vla.conf.strategies import StrategyConfig

    if "local-sgd" not in StrategyConfig.get_known_choices():
        spec = importlib.util.spec_from_file_location("experiments_custom_strategy", script)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    _parse(PretrainConfig, options)


def _check_argparse(script: Path, options: list[str]) -> None:
    """The script names each of the flags in a call of `add_argument`."""
    known = set(re.findall(r'add_argument\(\s*"(--[\w-]+)"', script.read_text(encoding="utf-8"))) | {"--help"}
    for word in options:
        if word.startswith("--") and word.partition("=")[0] not in known:
            raise ValueError(f"{script.name} has no flag {word}; known are {', '.join(sorted(known))}")


def _after_options(words: list[str], flags: tuple[str, ...] = ()) -> list[str]:
    """The words after a launcher's own options, all of which but `flags` take a value."""
    while words and words[0].startswith("-") and words[0] != "-m":
        words = words[1:] if "=" in words[0] or words[0] in flags else words[2:]
    return words


def _pip(words: list[str]) -> None:
    """`pip install` of this package names extras that setup.py has; of a folder, one that can be installed."""
    if words[0] != "install":
        raise UnknownCommandError(f"no rule for pip {words[0]}")
    extras = (ROOT / "setup.py").read_text(encoding="utf-8")
    for word in words[1:]:
        if word.startswith("-"):
            continue
        folder, _, named = word.partition("[")
        if not any((ROOT / folder / name).is_file() for name in ("setup.py", "pyproject.toml")):
            raise ValueError(f"{folder} is no folder that can be installed")
        for extra in filter(None, named.rstrip("]").split(",")):
            if f'"{extra}": ' not in extras:
                raise ValueError(f"setup.py has no extra {extra!r}")


def _bash(words: list[str]) -> None:
    """A script of the repository; the quickstart's words are those of a training run."""
    if not (ROOT / words[0]).is_file():
        raise ValueError(f"there is no file {words[0]}")
    if words[0].endswith("quickstart.sh"):
        _check_vla(["train", "--config_path", str(ROOT / "experiments/quickstart.yaml"), *words[1:]])


def _sbatch(words: list[str]) -> None:
    script, *options = _after_options(words)
    if not (ROOT / script).is_file():
        raise ValueError(f"there is no file {script}")
    _check_vla(["train", *options])


def _eval(words: list[str]) -> None:
    """What stands in `$(...)`."""
    for match in re.finditer(r"\$\((.*?)\)", " ".join(words)):
        check(match[1])


def _nothing(words: list[str]) -> None:
    """Programs of the system, of which nothing can be said here."""


OTHERS: dict[str, Any] = {
    "pip": _pip, "bash": _bash, "sbatch": _sbatch, "eval": _eval,
    **dict.fromkeys(("apt-get", "source", "cut", "cd", "mkdocs", "pre-commit", "ruff", "mypy", "pytest"), _nothing),
}  # fmt: skip
