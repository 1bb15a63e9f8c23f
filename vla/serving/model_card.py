"""Model cards: what a run's files say of its model, in the form in which the Hugging Face hub shows it.

Nothing is claimed that no file says: what was not measured is said to be not measured, and the licence is the user's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

import yaml

from vla.conf import cli
from vla.conf.convert import CardConfig
from vla.conf.json_files import read_json_object
from vla.conf.models.released import named_weights
from vla.conf.pretrain import PretrainConfig
from vla.data.processor import PROCESSOR_FILE
from vla.errors import UserError
from vla.models.weights.hub import CARD, front_matter
from vla.serving.card_results import results_section
from vla.training.checkpoint import CONFIG
from vla.training.checkpoint_files import read_manifest
from vla.training.checkpoint_store import find_checkpoint
from vla.training.evaluate import run_dir_of

PIPELINES = {
    "action": "robotics", "language": "image-text-to-text", "vqa": "image-text-to-text",
    "anomaly": "image-segmentation",
}  # fmt: skip
_USE = {  # by task, how a checkpoint folder is used
    "action": ("vla serve --checkpoint {name}", "vla evaluate --checkpoint {name} --suite libero-object"),
    "language": ("vla chat --model {name} --image picture.jpg",),
    "vqa": ("vla chat --model {name} --image picture.jpg",),
    "anomaly": ("vla evaluate --checkpoint {name} --dataset_root DIR",),
}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_STATISTICS = ("min", "q01", "mean", "std", "q99", "max")
_VERSIONS = ("vla", "python", "torch", "transformers", "timm", "safetensors")
_DEVICE = ("gpu", "processor", "processes", "device")
_PATHS = re.compile(r"root|annotations|dir|folder|file|path|images")  # fields of data that say where it lay


def write_card(config: CardConfig) -> int:
    """Write what `config` says.

    Returns:
        Exit code, 0.

    Raises:
        UserError: there is no complete checkpoint, or the card can't be written.
    """
    assert config.checkpoint is not None
    folder = find_checkpoint(config.checkpoint, prefer="best")
    path = config.output or run_dir_of(folder) / CARD
    text = model_card(folder, license_id=config.license, repository=config.repo)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"output: {path} can't be written ({error.strerror})") from error
    print(f"model card: {path}")
    return 0


def model_card(
    folder: Path, manifest: Mapping[str, Any] | None = None, *, license_id: str | None = None,
    repository: str | None = None, library: str = "vla",
) -> str:  # fmt: skip
    """The text of a card.

    Args:
        folder: a complete checkpoint, with its run's files around it if they are still there.
        manifest: of what is published, if that is not all of the checkpoint, or more.
        license_id: under which the user publishes the weights; None: the card says that none is stated.
        repository: "owner/name" for the examples; None: the run's name.
        library: whose layout the weights are in; of others than "vla" the card doesn't say how to load them.

    Raises:
        UserError: a file of the checkpoint can't be read.
    """
    run_dir, manifest = run_dir_of(folder), manifest or read_manifest(folder)
    run = cli.load(PretrainConfig, folder / CONFIG)
    model, task = type(run.model), type(run.model).task
    name = repository.rpartition("/")[2] if repository else run_dir.resolve().name
    bases = base_models(run)
    head = {
        "library_name": library, "pipeline_tag": PIPELINES.get(task), "license": license_id,
        "tags": [*dict.fromkeys(("vla", model.system.lower().replace(" ", "-"), model.model_id, run.stage.value))],
        "datasets": [type(run.dataset).dataset_id], "base_model": bases,
    }  # fmt: skip
    lines = [f"# {name}", "", _about(run, manifest, folder), ""]
    lines += _licence(license_id, bases)
    if library == "vla":
        lines += _loading(task, name, repository or name)
    lines += _contract(folder)
    lines += _data(run, folder)
    lines += ["## Results", "", *results_section(run_dir), ""]
    lines += _training(run, manifest, run_dir)
    return f"{front_matter(head)}\n" + "\n".join(lines)


def base_models(run: PretrainConfig) -> list[str]:
    """Ids on the hub of the weights that a run began with; files and folders are left out."""
    names = dict.fromkeys(named_weights(run.model)) if run.model.pretrained else {}
    return [name for name in names if is_hub_id(name)]


def is_hub_id(name: str) -> bool:
    """Whether a source of weights is an id on the hub, not something on this disk."""
    return _HUB_ID.fullmatch(name) is not None and not Path(name).exists()


def _about(run: PretrainConfig, manifest: Mapping[str, Any], folder: Path) -> str:
    model = type(run.model)
    step, epoch = manifest["global_step"], manifest["epoch"]
    text = f"`{model.model_id}` of the {model.system} family, stage `{run.stage.value}`, checkpoint `{folder.name}`, "
    if not step:
        return text + "taken over from published weights."
    text += f"trained on `{type(run.dataset).dataset_id}` for {step:,} optimizer steps ({epoch:.3g} epochs)."
    missing = manifest["groups_as_published"]
    if missing:
        text += f" The weights of {', '.join(missing)} are not in it: they are the published ones, which did not train."
    return text


def _licence(license_id: str | None, bases: Iterable[str]) -> list[str]:
    stated = f"`{license_id}`." if license_id else "**not stated.** Add `license:` above before you share the weights."
    origins = ", ".join(f"`{name}`" for name in bases)
    note = f" What it was made from has licences of its own: {origins}." if origins else ""
    return [f"Licence: {stated}{note}", ""]


def _loading(task: str, name: str, repository: str) -> list[str]:
    commands = [f"hf download {repository} --local-dir {name}", *(use.format(name=name) for use in _USE.get(task, ()))]
    return ["## How to use it", "", "```bash", *commands, "```", ""]


def _contract(folder: Path) -> list[str]:
    """Inputs and outputs, as the Processor holds them."""
    values = read_json_object(folder / PROCESSOR_FILE)
    statistics = values.pop("statistics", {})
    values.pop("statistics_hash", None)
    rows = [(name, _shown(value)) for name, value in _flat(values) if name != "format"]
    lines = ["## Contract", "", "What goes in and comes out (`processor.json`).", "", "| field | value |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in rows]
    names = values.get("conventions", {}).get("action_names", [])
    if "actions" in statistics and names:
        lines += ["", "Actions in the training data:", "", f"| dimension | {' | '.join(_STATISTICS)} |"]
        lines.append("|---|" + "---:|" * len(_STATISTICS))
        columns = [statistics["actions"][key] for key in _STATISTICS]
        for row in zip(names, *columns, strict=False):
            lines.append(f"| {row[0]} | {' | '.join(_shown(value) for value in row[1:])} |")
    return [*lines, ""]


def _data(run: PretrainConfig, folder: Path) -> list[str]:
    values = yaml.safe_load(cli.dump(run))["dataset"]
    rows = [("dataset", type(run.dataset).dataset_id)]
    rows += [(name, _shown(value)) for name, value in _flat(values) if not _PATHS.search(name) and name != "type"]
    contract = read_json_object(folder / PROCESSOR_FILE)
    count = contract.get("statistics", {}).get("actions", {}).get("count")
    rows += [("actions in the training split", f"{count:,}")] if count else []
    found = contract.get("statistics_hash")
    rows += [("SHA-256 of its statistics", f"`{found}`")] if found else []
    return ["## Data", "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""]


def _training(run: PretrainConfig, manifest: Mapping[str, Any], run_dir: Path) -> list[str]:
    stage = run.stage_config
    environment = read_json_object(run_dir / "environment.json") if (run_dir / "environment.json").is_file() else {}
    versions = {**environment, **manifest["versions"]}
    rows = [
        ("trained module groups", ", ".join(stage.trainable)),
        ("samples of a step", f"{stage.global_batch_size:,}"),
        ("learning rate", f"{stage.learning_rate:g}, {stage.schedule.name}"),
        ("optimizer, precision, seed", f"{stage.optimizer.name}, {stage.precision}, {run.seed}"),
    ]
    if run.pretrained_checkpoint is not None:
        rows.append(("began with the weights of", PurePath(run.pretrained_checkpoint).name))
    rows += [(name, _shown(environment[name])) for name in _DEVICE if environment.get(name)]
    rows.append(("versions", ", ".join(f"{name} {versions[name]}" for name in _VERSIONS if name in versions)))
    if not manifest["global_step"]:
        rows = rows[-1:]
    return ["## Training", "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _shown(value: Any) -> str:
    """A value in a cell of a table."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(_shown(item) for item in value)
    return str(value).replace("|", "\\|").replace("\n", " ")
