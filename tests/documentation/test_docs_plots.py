"""The pictures of the concept pages are those that scripts/docs/plots.py draws now."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import matplotlib
import numpy as np
import pytest
from documented_commands import ROOT

ASSETS = ROOT / "docs" / "assets"


@pytest.fixture(scope="module")
def plots() -> ModuleType:
    """scripts/docs/plots.py."""
    spec = importlib.util.spec_from_file_location("docs_plots", ROOT / "scripts" / "docs" / "plots.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pictures_are_up_to_date(plots: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["plots.py", "--output", str(tmp_path)])
    assert plots.main() == 0
    drawn, kept = ({path.name for path in folder.glob("*.svg")} for folder in (tmp_path, ASSETS))
    assert drawn == kept == {f"{name}.svg" for name in plots.PLOTS}
    if f"matplotlib=={matplotlib.__version__}" not in (ROOT / "constraints.txt").read_text(encoding="utf-8"):
        return  # another version may draw otherwise
    for name in sorted(drawn):
        (words, numbers), (kept_words, kept_numbers) = (
            parts((folder / name).read_text()) for folder in (tmp_path, ASSETS)
        )
        stale = f"docs/assets/{name} is not what the code draws now: run python scripts/docs/plots.py"
        assert words == kept_words, stale
        assert np.allclose(numbers, kept_numbers, atol=0.02), stale


def parts(svg: str) -> tuple[list[str], np.ndarray]:
    """What an SVG file says besides numbers, and its numbers; pictures inside of it and ids are left out."""
    svg = re.sub(r'data:image/png;base64,[^"]*|id="[^"]*"|#[\w-]+', "", svg)
    number = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"
    return re.split(number, svg), np.array([float(match) for match in re.findall(number, svg)])


def test_every_picture_is_shown() -> None:
    shown = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "concepts").glob("*.md"))
    assert {path.name for path in ASSETS.glob("*.svg")} == set(re.findall(r"assets/([\w-]+\.svg)", shown))
