"""README.zh.md says what README.md says: the same commands, figures and links, section by section."""

import re
from collections import Counter
from itertools import zip_longest
from typing import NamedTuple

import pytest
from documented_commands import ROOT, join_lines, strip_comment

NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*(?:e-?\d+)?", re.ASCII)
LANGUAGES = {"README.md", "README.zh.md"}  # what each of the two links to


class Section(NamedTuple):
    """What both languages have to say alike."""

    title: str
    blocks: list[list[str]]
    codes: Counter[str]
    numbers: Counter[str]
    links: Counter[str]


def sections(name: str) -> list[Section]:
    """A page, cut at its headings of the second level."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return [_section(part) for part in re.split(r"^(?=## )", text, flags=re.MULTILINE)]


def _section(text: str) -> Section:
    blocks = [
        [line for line in map(_without_comment, join_lines(block).splitlines()) if line]
        for block in re.findall(r"^```\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    ]
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    codes = Counter(re.sub(r"\s+", " ", code) for code in re.findall(r"`([^`]+)`", prose))
    links = Counter(link for link in re.findall(r"\]\(([^()\s]+)\)", prose) if link not in LANGUAGES)
    words = re.sub(r"`[^`]+`|\]\([^()\s]+\)", " ", prose)
    return Section(text.splitlines()[0].lstrip("# "), blocks, codes, Counter(NUMBER.findall(words)), links)


def _without_comment(line: str) -> str:
    return strip_comment(line) if "#" in line else line.strip()


PAIRS = [*zip_longest(sections("README.md"), sections("README.zh.md"))]


def test_sections_are_as_many() -> None:
    titles = [[section.title for section in sections(name)] for name in ("README.md", "README.zh.md")]
    assert len(titles[0]) == len(titles[1]), f"README.md has {titles[0]}, README.zh.md {titles[1]}"


@pytest.mark.parametrize("part", ["blocks", "codes", "numbers", "links"])
def test_readmes_say_the_same(part: str) -> None:
    differences = []
    for english, chinese in PAIRS:
        here, there = getattr(english, part), getattr(chinese, part)
        if here == there:
            continue
        if isinstance(here, Counter):
            only = f"only in README.md: {sorted((here - there).elements())}; "
            only += f"only in README.zh.md: {sorted((there - here).elements())}"
        else:
            only = f"README.md has\n{here}\nREADME.zh.md has\n{there}"
        differences.append(f"section {english.title!r} ({chinese.title}), {part}: {only}")
    assert not differences, "README.zh.md no longer says what README.md says; change both.\n" + "\n".join(differences)
