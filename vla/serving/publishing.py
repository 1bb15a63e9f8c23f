"""`vla convert push`: a checkpoint with its model card on the Hugging Face hub."""

from __future__ import annotations

import os
import shutil
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors.torch import save_file

from vla.conf import cli
from vla.conf.convert import ExportConfig, PushConfig
from vla.conf.models.released import named_weights
from vla.conf.pretrain import PretrainConfig
from vla.models.weights.hub import CARD, check_hub, upload_folder
from vla.serving.export import export
from vla.serving.model_card import is_hub_id, model_card
from vla.training.checkpoint import CONFIG
from vla.training.checkpoint_files import MANIFEST, checksum, read_manifest, write_json
from vla.training.checkpoint_store import find_checkpoint
from vla.training.inference import load_for_inference
from vla.training.optim import parameter_owners

_TRAINER = "trainer/"  # what only resuming needs: larger than the weights, and of no use to others


def push(config: PushConfig) -> int:
    """Upload what `config` says.

    Returns:
        Exit code, 0.

    Raises:
        UserError: there is no complete checkpoint, its model has no published layout, or the hub can't be reached or
            refuses.
    """
    assert config.checkpoint is not None and config.repo is not None
    check_hub()
    folder = find_checkpoint(config.checkpoint, prefer="best")
    with TemporaryDirectory() as beside:
        output = Path(beside) / "model"
        if config.layout == "vla":
            copy_for_inference(folder, output)
            if _begins_with_files(folder):
                complete(folder, output)
            library, manifest = "vla", read_manifest(output)
        else:
            export(ExportConfig(checkpoint=folder, output=output, precision=config.precision))
            manifest = {**read_manifest(folder), "groups_as_published": []}
            library = "nanovlm" if manifest["model"].startswith("nanovlm") else "transformers"
        card = model_card(
            folder, manifest, license_id=config.license, repository=config.repo, library=library
        )  # fmt: skip
        (output / CARD).write_text(card, encoding="utf-8")
        page = upload_folder(output, config.repo, private=config.private, message=f"Upload {folder.name}")
    print(f"{folder} is at {page}")
    return 0


def copy_for_inference(folder: Path, output: Path) -> None:
    """Copy a checkpoint without what only resuming needs, and without the places where data lay; a complete one again.

    Args:
        folder: a complete checkpoint.
        output: is made. Files are linked where the disk allows it.
    """
    manifest = read_manifest(folder)
    for key in ("files", "sha256"):
        if key in manifest:
            manifest[key] = {name: value for name, value in manifest[key].items() if not name.startswith(_TRAINER)}
    for name in manifest["files"]:
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(folder / name, output / name)
        except OSError:  # another disk
            shutil.copyfile(folder / name, output / name)
    (output / CONFIG).unlink()
    cli.save(without_places(cli.load(PretrainConfig, folder / CONFIG)), output / CONFIG)
    _note(manifest, output, CONFIG)
    write_json(output / MANIFEST, manifest)


def without_places(run: PretrainConfig) -> PretrainConfig:
    """A configuration that names no folder of data, of runs or of weights: of files that it began with, the names."""
    places = {
        item.name: item.default
        for item in fields(run.dataset)
        if isinstance(getattr(run.dataset, item.name), Path) and item.default is not MISSING
    }
    cache = replace(run.feature_cache, dir=None)
    return replace(
        run, model=_without_folders(run.model), dataset=replace(run.dataset, **places), feature_cache=cache,
        run_root_dir=PretrainConfig.run_root_dir, pretrained_checkpoint=None, resume=None,
    )  # fmt: skip


def _without_folders(value: Any) -> Any:
    """A part of a configuration in which files and folders of this disk are without the folders that they are in."""
    if is_dataclass(value) and not isinstance(value, type):
        parts = {item.name: _without_folders(getattr(value, item.name)) for item in fields(value) if item.init}
        return replace(value, **parts)
    if isinstance(value, dict):
        return {key: _without_folders(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return tuple(_without_folders(one) for one in value)
    if isinstance(value, str | Path) and os.sep in str(value) and (Path(value).is_absolute() or Path(value).exists()):
        return type(value)(Path(value).name)
    return value


def _note(manifest: dict[str, Any], folder: Path, name: str) -> None:
    """Say in a manifest what a file is now."""
    manifest["files"][name] = (folder / name).stat().st_size
    manifest.setdefault("sha256", {})[name] = checksum(folder / name)


def _begins_with_files(folder: Path) -> bool:
    """Whether weights that a checkpoint leaves out came from this disk, where nobody else finds them."""
    model = cli.load(PretrainConfig, folder / CONFIG).model
    return model.pretrained and not all(is_hub_id(name) for name in named_weights(model))


def complete(folder: Path, output: Path) -> None:
    """Put the weights that a checkpoint leaves out into its copy.

    Args:
        folder: a complete checkpoint; what it leaves out is found.
        output: its copy, see `copy_for_inference`.

    Raises:
        UserError: what it leaves out can't be found any more.
    """
    manifest = read_manifest(output)
    groups = [*manifest["groups_as_published"], *manifest.get("adapters_of_published", [])]
    if not groups:
        return
    _, _, model = load_for_inference(folder)
    state, owners = model.state_dict(), parameter_owners(model)
    for group in groups:
        name = f"model/{group}.safetensors"
        (output / name).unlink(missing_ok=True)  # a link to the checkpoint's own
        save_file({key: state[key].contiguous() for key, owner in owners.items() if owner == group}, output / name)
        _note(manifest, output, name)
    manifest["groups"] = [*dict.fromkeys([*manifest["groups"], *groups])]
    manifest |= {"groups_as_published": [], "adapters_of_published": []}
    write_json(output / MANIFEST, manifest)
