"""From a configuration file of UniAD's own code (experiments/*/config.yaml) to one of this toolkit.

What changes the training and has no counterpart here is an error, never left out in silence; what merely says where
files go is named in `Imported.notes`.

| UniAD's | here |
|---|---|
| `dataset.image_reader.kwargs.image_dir`, `train.meta_file`, `test.meta_file` | `dataset.{root, image_dir, *_meta}` |
| `dataset.{input_size, pixel_mean, pixel_std}`, `avgpool_size` | `model.processor` |
| `dataset.batch_size` (of a process) | `model.<stage>.{global,per_device}_batch_size`, for one process |
| `net`: `type: models.*`, `kwargs` | `model.net`: `type` of the registry, fields |
| `frozen_layers: [backbone]`, or none | stage `align`, or `full-finetune` |
| `criterion` | `model.criterion` |
| `trainer.lr_scheduler` | `schedule` in epochs; its steps come one epoch late, as in UniAD |
| `evaluator.key_metric` | `evaluation.metric` |
"""

from __future__ import annotations

import os.path
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vla.conf.errors import ConfigError, UserError, one_line
from vla.conf.import_uniad import UniADConfigImport
from vla.conf.reading import to_plain
from vla.conf.registry import suggest
from vla.conf.yaml_text import load_file

PARTS = {
    "models.backbones.efficientnet_b4": "efficientnet-b4",
    "models.necks.MFCN": "mfcn",
    "models.reconstructions.UniAD": "uniad",
}
LOSSES = {"FeatureMSELoss": "feature_mse", "L1Loss": "l1", "CosineLoss": "cosine"}
METRICS = {
    "mean_pixel_auc": "eval/pixel_auroc", "mean_max_auc": "eval/image_auroc_max",
    "mean_mean_auc": "eval/image_auroc_mean", "mean_std_auc": "eval/image_auroc_std",
}  # fmt: skip
_IGNORED = ("version", "port")
_MOST_STEPS = 10_000  # of a schedule
_SECTIONS = ("dataset", "trainer", "net", "criterion", "saver", "evaluator", "frozen_layers", "random_seed")
_DATASET = ("type", "image_reader", "train", "test", "input_size", "pixel_mean", "pixel_std", "batch_size", "workers")


@dataclass
class Imported:
    """A run's configuration as plain values for YAML, and what has to be known about it."""

    values: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def import_config(path: Path) -> Imported:
    """Read a configuration of UniAD's.

    Raises:
        UserError: it is none, or asks for something that this toolkit has not; one line that names the field.
    """
    from easydict import EasyDict

    try:
        content = to_plain(load_file(path))
    except ConfigError as error:
        raise UserError(f"input: {path} can't be read: {error.problem}") from error
    if not {"dataset", "trainer", "net"} <= set(content):
        raise UserError(f"input: {path} is no configuration of UniAD (dataset, trainer and net are in one)")
    try:
        return _Importer(EasyDict(content), path.parent).run()
    except UserError:
        raise
    except (AttributeError, KeyError) as error:
        missing = error.name if isinstance(error, AttributeError) else error.args[0]
        raise UserError(f"input: {path} has no {one_line(missing)}") from error
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        raise UserError(f"input: {path} has a value of another kind than UniAD's ({one_line(error)})") from error


def write_config(config: UniADConfigImport) -> int:
    """Write `config.input` as a configuration for scripts/pretrain.py, and say what has to be known about it.

    Returns:
        Exit code 0.

    Raises:
        UserError: it can't be read, or has no counterpart.
    """
    import yaml

    from vla.conf import cli
    from vla.conf.pretrain import PretrainConfig

    assert config.input is not None and config.output is not None
    imported = import_config(config.input)
    notes = "".join(f"# {note}\n" for note in imported.notes)
    beside = config.output.with_name(f".{config.output.name}")
    beside.parent.mkdir(parents=True, exist_ok=True)
    head = f"# Made from {config.input}, a configuration of github.com/zhiyuanyou/UniAD.\n{notes}"
    text = yaml.safe_dump(imported.values, sort_keys=False, width=120, default_flow_style=None)
    beside.write_text(head + text, encoding="utf-8")
    try:
        cli.load(PretrainConfig, beside)
    except UserError:
        beside.unlink()
        raise
    beside.replace(config.output)
    print("".join(f"note: {note}\n" for note in imported.notes) + f"{config.output} is written")
    return 0


class _Importer:
    def __init__(self, published: Any, folder: Path) -> None:
        self.published, self.folder = published, folder
        self.notes: list[str] = []

    def run(self) -> Imported:
        published = self.published
        _refuse_unknown("", published, (*_SECTIONS, *_IGNORED))
        stage = self._stage()
        trainer = published.trainer
        metric = published.get("evaluator", {}).get("key_metric", "mean_pixel_auc")
        model = {
            "type": "uniad-efficientnet-b4", "processor": self._processor(), "net": self._net(),
            "criterion": [self._loss(item) for item in published.get("criterion", [])],
            stage.replace("-", "_"): self._training(),
        }  # fmt: skip
        every = int(trainer.get("val_freq_epoch", 1))
        values = {
            "model": model, "dataset": self._dataset(), "stage": stage, "seed": int(published.get("random_seed", 7)),
            "loader": {"num_workers": int(published.dataset.get("workers", 1))},
            "log_every_steps": int(trainer.get("print_freq_step", 1)),
            "evaluation": {
                "every_steps": None, "every_epochs": every, "mode": "max",
                "metric": _choose("evaluator.key_metric", metric, METRICS),
            },
            "checkpoint": {"every_steps": None, "every_epochs": every, "keep_last": 1, "keep_best": True},
        }  # fmt: skip
        saver = published.get("saver", {})
        if saver.get("auto_resume"):
            values["resume"] = "auto"
        if saver:
            self.notes.append("saver: checkpoints, logs and evaluations go to run_root_dir/run_id")
        return Imported(values, self.notes)

    # --- parts of the file ---

    def _dataset(self) -> dict[str, Any]:
        data = self.published.dataset
        _refuse_unknown("dataset", data, _DATASET)
        if data.type != "custom":
            raise UserError(f"dataset.type: must be custom (pictures with meta files), got {data.type!r}")
        train, test = (self.folder / data[split].meta_file for split in ("train", "test"))
        _refuse_unknown("dataset.train", data.train, ("meta_file", "rebalance", "hflip", "vflip", "rotate"))
        if data.train.get("rebalance"):
            raise UserError("dataset.train.rebalance: must be false; pictures are not re-sampled here")
        if train.parent != test.parent:
            raise UserError("dataset.test.meta_file: must lie in the folder of dataset.train.meta_file")
        turns = {name: bool(data.train.get(name, False)) for name in ("hflip", "vflip", "rotate")}
        values = {
            "type": "mvtec-ad", "root": _shorten(train.parent), "train_meta": train.name, "test_meta": test.name,
            **turns,
        }  # fmt: skip
        images = _shorten(self.folder / data.image_reader.kwargs.image_dir)
        if images != _shorten(train.parent / "mvtec_anomaly_detection"):  # where they are looked for anyway
            values["image_dir"] = images
        return values

    def _processor(self) -> dict[str, Any]:
        data, processor = self.published.dataset, {}
        for name in ("input_size", "pixel_mean", "pixel_std"):
            processor[name] = list(data[name])
        for item in self.published.get("evaluator", {}).get("metrics", {}).get("auc", []):
            pool = item.get("kwargs", {}).get("avgpool_size")
            if pool is not None:
                processor["score_pool"] = list(pool)
        return processor

    def _stage(self) -> str:
        frozen = list(self.published.get("frozen_layers", []))
        if frozen not in ([], ["backbone"]):
            raise UserError(f"frozen_layers: must be [backbone] or [], got {frozen}")
        return "align" if frozen else "full-finetune"

    def _net(self) -> list[dict[str, Any]]:
        parts = []
        for number, item in enumerate(self.published.net):
            where = f"net[{number}]"
            _refuse_unknown(where, item, ("name", "type", "prev", "frozen", "kwargs"))
            part = {"name": item.name, "type": _choose(f"{where}.type", item.type, PARTS)}
            if "prev" in item:
                part["prev"] = item.prev
            parts.append(part | self._options(part["type"], dict(item.get("kwargs", {}))))
        return parts

    def _options(self, kind: str, kwargs: dict[str, Any]) -> dict[str, Any]:
        if kind == "efficientnet-b4":
            if not kwargs.pop("pretrained", True):
                kwargs["weights"] = None
            if kwargs.pop("pretrained_model", None):
                self.notes.append("net: pretrained_model is left out; pass the file as --model.backbone_weights FILE")
        if kind == "uniad":
            if kwargs.pop("save_recon", None):
                self.notes.append("net: save_recon is left out; evaluating writes no features")
            if "initializer" in kwargs:
                kwargs["initializer"] = kwargs["initializer"]["method"]
        return {name: _plain(value) for name, value in kwargs.items()}

    def _loss(self, item: Any) -> dict[str, Any]:
        kwargs = item.get("kwargs", {})
        _refuse_unknown(f"criterion {item.name}", kwargs, ("weight",))
        kind = _choose(f"criterion {item.name}.type", item.type, LOSSES)
        return {"type": kind, "weight": float(kwargs.get("weight", 1.0)), "name": item.name}

    def _training(self) -> dict[str, Any]:
        trainer, batch = self.published.trainer, int(self.published.dataset.batch_size)
        optimizer = trainer.optimizer
        kwargs = dict(optimizer.get("kwargs", {}))
        _refuse_unknown("trainer.optimizer.kwargs", kwargs, ("lr", "betas", "weight_decay", "momentum", "nesterov"))
        settings = {name: _plain(kwargs[name]) for name in ("betas", "momentum", "nesterov") if name in kwargs}
        name = _choose("trainer.optimizer.type", optimizer.type, {"AdamW": "adamw", "SGD": "sgd"})
        self.notes.append(f"dataset.batch_size: {batch} is of a process there; global_batch_size is for one process")
        return {
            "epochs": int(trainer.max_epoch), "global_batch_size": batch, "per_device_batch_size": batch,
            "learning_rate": float(kwargs["lr"]), "weight_decay": float(kwargs.get("weight_decay", 0.01)),
            "max_grad_norm": float(trainer.clip_max_norm) if trainer.get("clip_max_norm") else None,
            "precision": "fp32", "optimizer": {"name": name, "decay_norms_and_biases": True, **settings},
            "schedule": self._schedule(),
        }  # fmt: skip

    def _schedule(self) -> dict[str, Any]:
        """UniAD tells its scheduler the number of the epoch that is over, so that every step comes an epoch late."""
        epochs, scheduler = int(self.published.trainer.max_epoch), self.published.trainer.lr_scheduler
        kwargs = scheduler.get("kwargs", {})
        if scheduler.type == "StepLR":
            steps = range(int(kwargs.step_size), epochs, int(kwargs.step_size))
            if len(steps) > _MOST_STEPS:
                raise UserError(f"trainer.lr_scheduler: must have at most {_MOST_STEPS} steps, got {len(steps)}")
            milestones = list(steps)
        elif scheduler.type == "MultiStepLR":
            milestones = [int(epoch) for epoch in kwargs.milestones]
        else:
            raise UserError(f"trainer.lr_scheduler.type: must be StepLR or MultiStepLR, got {scheduler.type!r}")
        late = [epoch + 1 for epoch in milestones]
        self.notes.append(f"trainer.lr_scheduler: the rate falls after epochs {late}, one late, as in UniAD")
        return {"name": "multistep", "milestones": late, "gamma": float(kwargs.get("gamma", 0.1)), "unit": "epochs"}


def _choose(where: str, value: str, choices: dict[str, str]) -> str:
    if value not in choices:
        near = suggest(str(value), list(choices))
        raise UserError(f"{where}: must be one of {', '.join(choices)}, got {value!r}{near}")
    return choices[value]


def _refuse_unknown(where: str, group: Any, known: tuple[str, ...]) -> None:
    for name in group:
        if name not in known:
            raise UserError(f"{where + '.' if where else ''}{name}: has no counterpart here")


def _plain(value: Any) -> Any:
    """Without EasyDicts and tuples, for YAML."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _shorten(path: Path) -> str:
    """A path without the steps up and down again that UniAD's have."""
    return Path(os.path.normpath(path)).as_posix()
