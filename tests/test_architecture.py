"""The arrows between the rooms, and what importing the light ones may cost."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "vla"

LEAVES = {"errors", "torchvision_shim", "prompting", "tokenization"}
BASE = LEAVES | {"conf", "overwatch", "batches"}
MIDDLE = BASE | {"data", "models", "evaluation"}
# What each room may import besides itself. Rooms of one storey never import each other.
ALLOWED = {
    "errors": set(),
    "torchvision_shim": set(),
    "prompting": set(),
    "tokenization": {"errors", "torchvision_shim"},
    "conf": LEAVES,
    "overwatch": LEAVES,
    "batches": LEAVES,
    "data": BASE,
    "models": BASE,
    "evaluation": BASE,
    "training": MIDDLE,
    "reporting": MIDDLE | {"training"},
    "serving": MIDDLE | {"training"},
    "diagnosis": BASE | {"evaluation"},
    "commands": MIDDLE | {"training", "reporting", "serving", "diagnosis"},
    "__main__": {"commands"},
}
LIGHT = [
    "vla",
    "vla.errors",
    "vla.prompting",
    "vla.tokenization",
    "vla.conf.cli",
    "vla.conf.pretrain",
    "vla.conf.evaluate",
    "vla.conf.help",
    "vla.overwatch",
    "vla.commands.main",
    "vla.commands.candidates",
]
HEAVY = ["torch", "numpy", "transformers", "timm", "h5py", "torchvision", "matplotlib", "pandas"]


def modules(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full module name of every import, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.relative_to(ROOT)}:{node.lineno}: relative import"
            yield from ((node.lineno, f"{node.module}.{name.name}") for name in node.names)


def room(module: str) -> str:
    """The room of a module of the package: "vla.conf.cli" -> "conf"."""
    return module.split(".")[1] if "." in module else ""


def test_every_room_is_known() -> None:
    names = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert names - {"__init__"} <= set(ALLOWED), "add new rooms to ALLOWED, in their storey"


def test_nothing_is_imported_upwards() -> None:
    wrong = []
    for path in modules(PACKAGE):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for line, module in imports(path):
            if module.partition(".")[0] in ("scripts", "experiments", "tests"):
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {module}")
            if module.partition(".")[0] == "vla" and own != "__init__":
                target = room(module)
                if target not in {own, "__version__", ""} | ALLOWED.get(own, set()):
                    wrong.append(f"{path.relative_to(ROOT)}:{line}: {own} imports {target}")
    assert not wrong, "\n".join(wrong)


def test_scripts_do_not_import_each_other() -> None:
    names = {path.stem for path in modules(ROOT / "scripts") if not path.stem.startswith("_")}  # those are shared
    for path in modules(ROOT / "scripts"):
        assert not {module.partition(".")[0] for _, module in imports(path)} & names, path.name


@pytest.mark.parametrize("module", LIGHT)
def test_light_rooms_import_nothing_heavy(module: str) -> None:
    program = f"import sys, {module}; print(sorted(set({HEAVY}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_logging_a_line_imports_no_rich_without_a_terminal() -> None:
    program = (
        "import sys\nfrom vla.overwatch import initialize_overwatch\ninitialize_overwatch('x').info('hello')\n"
        "assert not {'rich', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.endswith("hello\n")


def test_modules_say_what_they_are_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in modules(PACKAGE, ROOT / "scripts")
        if path.read_text(encoding="utf-8").strip()
        and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not silent
