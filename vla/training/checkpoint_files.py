"""The checkpoint folder on disk: written beside and renamed into place, complete when it has a manifest. No pickle.

step-000120/
    config.yaml  processor.json        the resolved configuration and the model's input and output contract
    model/<group>.safetensors          weights by module group, under their names in `model.state_dict()`
    assets/                            what rebuilds the model besides its configuration: sizes, tokenizer
    trainer/optimizer.safetensors      `<parameter name>.<state name>`
    trainer/state.json                 position, sampler, optimizer settings, loss scale, best metric, trackers
    trainer/rank-00000.safetensors     random number generators and open metric sums of every process
    manifest.json                      versions, step, what is in it, size and SHA-256 of every file; written last
"""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import safetensors
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

import vla
from vla.conf.json_files import read_json_object
from vla.errors import UserError
from vla.overwatch import initialize_overwatch

overwatch = initialize_overwatch(__name__)

FORMAT = 1
MANIFEST = "manifest.json"
TEMPORARY = ".tmp"  # suffix of folders that are being written or removed
_BLOCK = 2**22  # bytes read at once: enough for hashlib to leave the interpreter to other threads


def versions() -> dict[str, str]:
    """Versions of what writes a checkpoint."""
    return {
        "vla": vla.__version__, "torch": torch.__version__, "safetensors": safetensors.__version__,
        "python": platform.python_version(),
    }  # fmt: skip


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that `path` is never seen half written."""
    beside = path.with_name(path.name + TEMPORARY)
    beside.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    flush(beside)
    os.replace(beside, path)


def flush(path: Path) -> None:
    """Make sure that a file, or a folder's list of files, is on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folders, and needs it not
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def checksum(path: Path) -> str:
    """SHA-256 of a file's content, as `sha256sum` prints it."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


class CheckpointWriter:
    """Writes one checkpoint: everything, or nothing. A context.

    The first error of the disk is kept and what follows is not written, but nothing is raised before `commit`: the
    process that writes must go on taking part in what all processes do together.

    Args:
        folder: the finished checkpoint's place; one that is there is replaced.
        enabled: False in processes that do not write; then all methods do nothing.
    """

    def __init__(self, folder: Path, *, enabled: bool = True) -> None:
        self.folder = folder
        self._beside = folder.with_name(folder.name + TEMPORARY)
        self._enabled = enabled
        self._error: Exception | None = None

    def __enter__(self) -> "CheckpointWriter":
        self._attempt(self._make_folder)
        return self

    def __exit__(self, *_: object) -> None:
        if self._enabled:
            shutil.rmtree(self._beside, ignore_errors=True)

    def _make_folder(self) -> None:
        shutil.rmtree(self._beside, ignore_errors=True)
        self._beside.mkdir(parents=True)

    def _attempt(self, function: Callable[[], object]) -> None:
        if self._enabled and self._error is None:
            try:
                function()
            except (OSError, MemoryError, RuntimeError, safetensors.SafetensorError) as error:  # torch: no memory
                self._error = error

    def _path(self, name: str) -> Path:
        path = self._beside / name
        path.parent.mkdir(exist_ok=True)
        return path

    def tensors(self, name: str, tensors: dict[str, Tensor]) -> None:
        """Add a safetensors file."""
        self._attempt(lambda: save_file({key: value.contiguous() for key, value in tensors.items()}, self._path(name)))

    def data(self, name: str, content: bytes) -> None:
        """Add a file of bytes."""
        self._attempt(lambda: self._path(name).write_bytes(content))

    def json(self, name: str, value: Any) -> None:
        """Add a JSON file."""
        self.data(name, (json.dumps(value, indent=2) + "\n").encode())

    def call(self, save: Callable[[Path], object]) -> None:
        """Let `save(folder)` add a file of its own. Whatever it raises is an error of the disk: tokenizers, for one,
        raise a plain Exception on a full one.
        """

        def save_it() -> None:
            try:
                save(self._beside)
            except Exception as error:
                raise OSError(f"{type(error).__name__}: {error}") from error

        self._attempt(save_it)

    def commit(self, manifest: dict[str, Any]) -> None:
        """Add the manifest, flush all, and rename the folder into place.

        Raises:
            OSError: something could not be written; no trace is left.
        """
        self._attempt(lambda: self._finish(manifest))
        if self._error is not None:
            raise OSError(f"{self.folder}: the checkpoint could not be written: {self._error}") from self._error

    def _finish(self, manifest: dict[str, Any]) -> None:
        files = sorted(path for path in self._beside.rglob("*") if path.is_file())
        names = [path.relative_to(self._beside).as_posix() for path in files]
        for path in files:
            flush(path)
        whole = {
            "format": FORMAT, "versions": versions(), **manifest,
            "files": dict(zip(names, [path.stat().st_size for path in files], strict=True)),
            "sha256": dict(zip(names, map(checksum, files), strict=True)),
        }  # fmt: skip
        write_json(self._beside / MANIFEST, whole)
        for folder in [path for path in self._beside.rglob("*") if path.is_dir()] + [self._beside]:
            flush(folder)
        if self.folder.exists():
            remove_checkpoint(self.folder)
        os.rename(self._beside, self.folder)
        flush(self.folder.parent)


def remove_checkpoint(folder: Path) -> None:
    """Delete a checkpoint; killed meanwhile, it leaves something that nobody takes for a checkpoint."""
    doomed = folder.with_name("removed-" + folder.name + TEMPORARY)
    shutil.rmtree(doomed, ignore_errors=True)
    os.rename(folder, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


@contextmanager
def one_line_errors(path: Path) -> Iterator[None]:
    """What goes wrong while the content of `path` is taken apart (a part is missing, or of another kind) is an error
    of the file, in one line.

    Raises:
        UserError: in place of the exceptions that broken content causes; UserError itself passes.
    """
    try:
        yield
    except UserError:
        raise
    except KeyError as error:
        raise UserError(f"{path}: broken, or of another version: {error} is missing") from error
    except (TypeError, ValueError, AttributeError, IndexError, RuntimeError, OSError) as error:
        raise UserError(f"{path}: broken, or of another version ({' '.join(str(error).split())})") from error


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a complete checkpoint. Contents of files are not read: see `verify_checkpoint`.

    Raises:
        UserError: there is none, or a file that it lists is missing or has another size.
    """
    if not (folder / MANIFEST).is_file():
        raise UserError(f"{folder}: not a complete checkpoint (no {MANIFEST})")
    manifest = read_json_object(folder / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise UserError(f"{folder}: checkpoint format {manifest.get('format')}, this version reads {FORMAT}")
    with one_line_errors(folder / MANIFEST):
        for name, size in {**manifest["files"]}.items():
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise UserError(f"{folder / MANIFEST}: must list files of its folder, got {name!r}")
            path = folder / name
            if not path.is_file() or path.stat().st_size != size:
                raise UserError(f"{folder}: not a complete checkpoint ({name} is missing or cut off)")
    return manifest


def verify_checkpoint(folder: Path) -> dict[str, Any]:
    """Read all of a checkpoint's files and compare them with their checksums; returns the manifest.

    Checkpoints of versions that wrote no checksums are checked for completeness alone.

    Raises:
        UserError: it is not complete, or a file was altered after it was written.
    """
    manifest = read_manifest(folder)
    with one_line_errors(folder / MANIFEST):
        expected = {**manifest.get("sha256", {})}
        for name in [name for name in manifest["files"] if name in expected]:
            try:
                found = checksum(folder / name)
            except OSError as error:
                raise UserError(f"{folder}: {name} can't be read ({error.strerror})") from error
            if found != expected[name]:
                raise UserError(f"{folder}: {name} was altered or damaged after it was written (checksum differs)")
    return manifest


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, on the host.

    Raises:
        UserError: it can't be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path}: can't be read ({error})") from error
