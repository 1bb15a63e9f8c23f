"""Licence, citation, changes and commit hooks say the same as the package."""

import re
import subprocess
import sys

import pytest
import yaml
from documented_commands import ROOT

import vla


def text(name: str) -> str:
    """A file of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def test_citation() -> None:
    """As the Citation File Format 1.2.0 asks: required fields, known types, versions as text."""
    citation = yaml.load(text("CITATION.cff"), Loader=yaml.BaseLoader)
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0" and citation["type"] in ("software", "dataset")
    assert citation["version"] == vla.__version__
    assert citation["license"] == "MIT"
    people = {"family-names", "given-names", "name", "alias", "affiliation", "orcid"}
    for work in (citation, *citation["references"]):
        assert work["title"] and all(author and set(author) <= people for author in work["authors"])
    for work in citation["references"]:
        assert work["type"] == "article" and re.fullmatch(r"\d{4}", work["year"])
        assert re.fullmatch(r"https://arxiv\.org/abs/\d{4}\.\d{5}", work["url"])


def test_licence() -> None:
    assert text("LICENSE").startswith("MIT License\n")
    assert 'license="MIT"' in text("setup.py") and "THIRD_PARTY.md" in text("setup.py")


@pytest.mark.parametrize(
    "origin",
    ["VGGT", "AtlasVLA", "Prismatic", "OpenVLA", "OpenVLA-OFT", "nanoVLM", "UniAD", "LIBERO", "EfficientNet-Lite0",
     "SmolLM2", "MVTec AD", "LLaVA", "LLaMA-2", "openpi", "robosuite", "MuJoCo"],
)  # fmt: skip
def test_every_origin_has_its_licence_notes(origin: str) -> None:
    rows = [line for line in text("THIRD_PARTY.md").splitlines() if line.startswith("| ") and origin in line]
    assert rows, f"THIRD_PARTY.md does not say under which licence {origin} is"


def test_changes_are_in_the_known_form() -> None:
    headings = re.findall(r"^## (.*)$", text("CHANGELOG.md"), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", heading) for heading in headings[1:])
    kinds = set(re.findall(r"^### (.*)$", text("CHANGELOG.md"), re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert vla.__version__ in text("CHANGELOG.md")


def test_commit_hooks_are_valid_and_check_what_the_tests_check() -> None:
    pytest.importorskip("pre_commit")
    command = [sys.executable, "-m", "pre_commit", "validate-config", ".pre-commit-config.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    (repository,) = yaml.safe_load(text(".pre-commit-config.yaml"))["repos"]
    script = text("scripts/test.sh")
    for hook in repository["hooks"]:
        tool = hook["entry"].removeprefix("python -m ").split(" --")[0]
        assert f"-m {tool}" in script, f"scripts/test.sh does not run {tool}"
