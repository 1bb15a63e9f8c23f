"""Hooks of mkdocs.yml: pages may link to any file of the repository, and marks of commands become words.

Links that lead out of docs/ work on a code host and in an editor. For the site the files that they name are added below
`repository/` (text as a page, pictures as they are), their own links included, and the links lead there.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
ADDED = "repository/"
IN_NAVIGATION = ("CHANGELOG.md", "CONTRIBUTING.md", "THIRD_PARTY.md", "experiments/results/README.md")
LANGUAGES = {
    ".yaml": "yaml", ".yml": "yaml", ".py": "python", ".sh": "bash", ".sbatch": "bash", ".toml": "toml", ".cff": "yaml",
    "": "text", ".txt": "text", ".ipynb": "json", ".json": "json",
}  # fmt: skip
LINK = re.compile(r"(!?\[(?:[^\]\[]|\[[^\]]*\])*\]\()([^()\s]+)(\))")
NEEDS = re.compile(r"^( *)<!-- needs: ([^>\n]+) -->$", re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put pages that the navigation does not name at its end, so that a new one is found before somebody places it."""
    named = set(re.findall(r"[\w/.-]+\.md", str(config.nav)))
    pages = sorted(path.relative_to(config.docs_dir).as_posix() for path in Path(config.docs_dir).rglob("*.md"))
    if more := [page for page in pages if page not in named]:
        config.nav = [*(config.nav or []), {"More": more}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files of the repository that pages link to, directly or through each other."""
    pages = [Path(file.abs_src_path) for file in files.documentation_pages() if file.abs_src_path]
    waiting = [*(ROOT / name for name in IN_NAVIGATION), *(target for page in pages for target in _outside(page))]
    added: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in added or not path.exists():
            continue
        added.add(path)
        uri = site_uri(path)
        listed = str(path.relative_to(ROOT)) in IN_NAVIGATION
        source = {"abs_src_path": str(path)} if path.is_file() and not as_text(path) else {"content": as_page(path)}
        file = File.generated(config, uri, **source)
        file.inclusion = InclusionLevel.INCLUDED if listed else InclusionLevel.NOT_IN_NAV
        files.append(file)
        if path.suffix == ".md":
            waiting += _outside(path)
        elif path.is_dir():
            waiting += _listed(path)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links for the site, and say what the commands below need."""
    source = source_of(page.file.src_uri)
    if source.suffix == ".md":
        markdown = LINK.sub(lambda match: match[1] + _turned(match[2], source, page.file.src_uri) + match[3], markdown)
    return NEEDS.sub(r"\1*Needs \2:*", markdown)


def site_uri(path: Path) -> str:
    """Where a file of the repository is on the site."""
    relative = path.relative_to(ROOT).as_posix()
    if relative.startswith("docs/"):
        return relative.removeprefix("docs/")
    if path.is_dir():
        return f"{ADDED}{relative}/README.md"
    return ADDED + relative + (".md" if as_text(path) else "")


def source_of(uri: str) -> Path:
    """The file that a page of the site shows."""
    if not uri.startswith(ADDED):
        return ROOT / "docs" / uri
    path = ROOT / uri.removeprefix(ADDED)
    return path if path.exists() else path.with_suffix("")


def as_text(path: Path) -> bool:
    """Whether a file becomes a page that shows its text."""
    return path.suffix in LANGUAGES


def as_page(path: Path) -> str:
    """A file that is no Markdown, or a folder without a page of its own, as a page."""
    if path.is_dir():
        links = (f"- [{child.name}]({site_uri(child).rpartition('/')[2]})" for child in _listed(path))
        return f"# {path.relative_to(ROOT)}\n\n" + "\n".join(links) + "\n"
    return f"# {path.relative_to(ROOT)}\n\n````{LANGUAGES[path.suffix]}\n{path.read_text(encoding='utf-8')}\n````\n"


def target_of(link: str, source: Path) -> Path | None:
    """The file of the repository that a link on a page leads to; None where it leads elsewhere, or nowhere."""
    path = link.partition("#")[0]
    if not path or re.match(r"[a-z]+:", link):
        return None
    target = (source.parent / path).resolve()
    if (target / "README.md").is_file():
        target = target / "README.md"
    return target if target.exists() and target.is_relative_to(ROOT) else None


def _listed(folder: Path) -> list[Path]:
    """The files that the page of a folder names."""
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in {*LANGUAGES, ".md"})


def _outside(page: Path) -> list[Path]:
    """The files outside of docs/ that a page links to."""
    targets = (target_of(match[2], page) for match in LINK.finditer(page.read_text(encoding="utf-8")))
    return [path for path in targets if path is not None and not path.is_relative_to(ROOT / "docs")]


def _turned(link: str, source: Path, uri: str) -> str:
    target = target_of(link, source)
    if target is None:
        return link
    anchor = "".join(link.partition("#")[1:])
    return posixpath.relpath(site_uri(target), posixpath.dirname(uri) or ".") + anchor
