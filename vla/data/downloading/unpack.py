"""Zip archives of images unpacked to where annotations look for them, and images of other formats as .jpg."""

import lzma
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile, ZipFile, ZipInfo

from PIL import Image

from vla.data.errors import one_line
from vla.data.pictures import UNREADABLE
from vla.errors import UserError

_DAMAGED = (  # what zipfile and its decompressors let through
    BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError, LookupError, struct.error,
)  # fmt: skip
JPG_SUFFIXES = (".jpg", ".jpeg")
Progress = Callable[[int, int], None]  # files so far, of how many


def unpack(archive: Path, target: Path, *, strip: bool = True, progress: Progress | None = None) -> int:
    """Unpack an archive; what lies there with its size already is left alone, so that a new call goes on.

    Args:
        archive: every file's checksum inside it is compared.
        target: folder.
        strip: let `target` take the place of the folders that all files of the archive are in.
        progress: told now and then how far it is.

    Returns:
        Number of files.

    Raises:
        UserError: the archive is damaged, or holds a path that leads out of `target`; or the disk is too small.
    """
    try:
        with ZipFile(archive) as content:
            members = [member for member in content.infolist() if _is_wanted(member)]
            outer = _outer_folders(members) if strip else 0
            target.mkdir(parents=True, exist_ok=True)
            _check_room(target, members)
            for number, member in enumerate(members):
                path = target.joinpath(*_inner_parts(archive, member, outer))
                if not (path.is_file() and path.stat().st_size == member.file_size):
                    _unpack_member(content, member, path)
                if progress:
                    progress(number + 1, len(members))
            return len(members)
    except UserError:
        raise
    except _DAMAGED as error:
        raise UserError(
            f"{archive}: damaged, or no zip archive ({one_line(error)}); delete it and run the command again"
        ) from error
    except OSError as error:
        raise UserError(f"{archive}: can't be unpacked into {target} ({one_line(error)})") from error


def _unpack_member(content: ZipFile, member: ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with content.open(member) as source, path.open("wb") as file:
            shutil.copyfileobj(source, file, 2**20)
    except BaseException:
        path.unlink(missing_ok=True)  # it could have its full size, and look whole to the next call
        raise


def convert_to_jpg(folder: Path, progress: Progress | None = None) -> tuple[int, list[str]]:
    """Write a .jpg beside every image of another format that has none; of an animation, its first picture.

    Returns:
        Number of images written, and the names of those that can't be read.
    """
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    there = set(names)
    wanted = [
        name for name in names if not name.lower().endswith(JPG_SUFFIXES) and f"{Path(name).stem}.jpg" not in there
    ]
    failed = []
    for number, name in enumerate(wanted):
        path = folder / f"{Path(name).stem}.jpg"
        beside = folder / f".{path.name}.partial"
        try:
            with Image.open(folder / name) as image:
                image.seek(0)
                image.convert("RGB").save(beside, format="jpeg")
            os.replace(beside, path)
        except UNREADABLE:
            beside.unlink(missing_ok=True)
            failed.append(name)
        if progress:
            progress(number + 1, len(wanted))
    return len(wanted) - len(failed), failed


def _is_wanted(member: ZipInfo) -> bool:
    parts = PurePosixPath(member.filename).parts
    return bool(parts) and not member.is_dir() and "__MACOSX" not in parts and parts[-1] != ".DS_Store"


def _outer_folders(members: list[ZipInfo]) -> int:
    """How many folders, from the outside, all files are in."""
    parents = [PurePosixPath(member.filename).parent.parts for member in members]
    common = os.path.commonprefix(parents)  # of tuples, element by element
    return len(common)


def _inner_parts(archive: Path, member: ZipInfo, outer: int) -> tuple[str, ...]:
    path = PurePosixPath(member.filename)
    if path.is_absolute() or ".." in path.parts:
        raise UserError(f"{archive}: holds a path that leads out of it: '{member.filename}'")
    return path.parts[outer:]


def _check_room(target: Path, members: list[ZipInfo]) -> None:
    needed, free = sum(member.file_size for member in members), shutil.disk_usage(target).free
    if needed > free and not any(target.iterdir()):
        raise UserError(f"root: {target} has {free / 1e9:.1f} GB left, {needed / 1e9:.1f} GB are needed to unpack")
