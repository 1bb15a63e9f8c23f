"""The site is built without a warning, which a broken link or a page outside of the navigation would be."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from documented_commands import ROOT

pytest.importorskip("mkdocs")
pytest.importorskip("mkdocstrings")
pytest.importorskip("material")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"mkdocs build --strict failed:\n{done.stderr[-4000:]}"
    return folder


def test_pages_are_there(site: Path) -> None:
    for page in ("index", "tutorials/uniad", "concepts/batches", "reference/training", "repository/CHANGELOG"):
        assert (site / f"{page}.html").is_file()
    assert (site / "assets" / "packing.svg").is_file()


def test_reference_comes_from_docstrings(site: Path) -> None:
    page = (site / "reference" / "training.html").read_text(encoding="utf-8")
    assert "vla.training.schedules.get_schedule" in page
    assert "held in" in page  # words of its docstring


def test_files_of_the_repository_can_be_read(site: Path) -> None:
    tutorial = (site / "tutorials" / "atlas.html").read_text(encoding="utf-8")
    assert "../repository/experiments/libero_object.yaml.html" in tutorial
    recipe = (site / "repository" / "experiments" / "libero_object.yaml.html").read_text(encoding="utf-8")
    assert "efficientnet-smollm-135m" in recipe


def test_readers_see_what_commands_need(site: Path) -> None:
    page = (site / "tutorials" / "prismatic.html").read_text(encoding="utf-8")
    assert "<em>Needs GPUs, LLaVA" in page


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    page = (site / "index.html").read_text(encoding="utf-8")
    fetched = re.findall(r'<(?:script|img|link)[^>]+(?:src|href)="(https?://[^"]+)"', page)
    assert not fetched
