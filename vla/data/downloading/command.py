"""scripts/data.py download: every part fetched, checked, unpacked and recorded, one after the other."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from vla.conf.download import DownloadConfig, Source
from vla.data.downloading.fetch import Fetched, check_file, fetch
from vla.data.downloading.unpack import convert_to_jpg, unpack
from vla.data.language.annotation_scan import read_annotations
from vla.errors import UserError
from vla.overwatch import initialize_overwatch

overwatch = initialize_overwatch(__name__)

RECORDS = ".fetched"  # folder with a file for every part that is there
_MOST_SHOWN = 3


def download(config: DownloadConfig) -> int:
    """Fetch what `config` asks for; what is there and whole already is left as it is. Prints a line for each part.

    Returns:
        Exit code 0.

    Raises:
        UserError: a part can't be had; those before it are there, and the same command goes on with it.
    """
    for source in config.sources:
        folder = config.root / source.folder
        try:
            (folder / RECORDS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"root: {folder} can't be written: {error.strerror}") from error
        record = _read_record(folder, source)
        state = "is there" if record else "fetched"
        record = record or _get_part(source, folder, config)
        size = f"{record['size'] / 1e6:,.1f} MB"
        print(f"{source.name}: {state}, {folder / source.target}, {size}, sha256 {record['sha256'][:12]}...")
    return 0


def record_path(folder: Path, source: Source) -> Path:
    """The file that says that a part is whole, and what its sums were."""
    return folder / RECORDS / f"{source.name}.json"


def _read_record(folder: Path, source: Source) -> dict[str, Any] | None:
    try:
        record = json.loads(record_path(folder, source).read_text(encoding="utf-8"))
        whole = (folder / source.target).exists() and {"size", "sha256"} <= record.keys()
        return record if whole else None
    except (OSError, ValueError, AttributeError):
        return None


def _get_part(source: Source, folder: Path, config: DownloadConfig) -> dict[str, Any]:
    target = folder / source.target
    is_archive = source.content == "images"
    file = folder / f"{source.name}.zip" if is_archive else target
    with _bars(source.name) as bars:
        if file.exists():  # fetched by an earlier run that got no further, or put there by hand
            fetched = check_file(file, file.name, md5=source.md5)
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            fetched = fetch(
                address(source.url, config.mirror), file, md5=source.md5, retries=config.retries,
                progress=bars.of_bytes("fetched"),
            )  # fmt: skip
        record: dict[str, Any] = {"url": source.url, **vars(fetched)}
        if is_archive:
            strip = source.target != "."
            record["files"] = unpack(file, target, strip=strip, progress=bars.of_files("unpacked"))
            record["checked"] += " and every file's CRC-32"
            if source.to_jpg:
                record["converted"], failed = convert_to_jpg(target, bars.of_files("converted"))
                _warn(source, failed)
        else:
            record["rows"] = _count_rows(file, fetched)
    record["finished"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
    path = record_path(folder, source)
    beside = path.with_name(f".{path.name}.partial")
    beside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    beside.replace(path)
    if is_archive and not config.keep_archives:
        file.unlink()
    return record


def address(url: str, mirror: str | None) -> str:
    """`url`, or the same path of `mirror`."""
    return url if mirror is None else f"{mirror.rstrip('/')}{urlsplit(url).path}"


def _count_rows(file: Path, fetched: Fetched) -> int:
    """Rows of an annotation file, which must be whole JSON."""
    try:
        return len(read_annotations(file))
    except UserError as error:
        raise UserError(f"{error}; it has {fetched.size} bytes; delete it and run the command again") from None


def _warn(source: Source, failed: list[str]) -> None:
    if failed:
        shown = ", ".join(failed[:_MOST_SHOWN]) + (", ..." if len(failed) > _MOST_SHOWN else "")
        overwatch.warning(f"{source.name}: {len(failed)} files are no images that can be read: {shown}")


class _Bars:
    """A bar for each step of a part, on a terminal."""

    def __init__(self, name: str, display: Progress) -> None:
        self._name, self._display = name, display
        self._tasks: dict[str, TaskID] = {}

    def of_bytes(self, step: str) -> Any:
        """A function that is told bytes so far, of how many."""
        return lambda done, total: self._show(step, done / 1e6, None if total is None else total / 1e6, "MB")

    def of_files(self, step: str) -> Any:
        """A function that is told files so far, of how many."""
        return lambda done, total: self._show(step, done, total, "files")

    def _show(self, step: str, done: float, total: float | None, unit: str) -> None:
        if step not in self._tasks:
            self._tasks[step] = self._display.add_task(f"{self._name} {step}", total=total, unit=unit)
        self._display.update(self._tasks[step], completed=done, total=total)


@contextmanager
def _bars(name: str) -> Iterator[_Bars]:
    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f} {task.fields[unit]}"),
        TextColumn("{task.percentage:>3.0f}%"), TimeRemainingColumn(),
    )  # fmt: skip
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as display:
        yield _Bars(name, display)
