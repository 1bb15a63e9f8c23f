"""Baselines of anomaly detection on the split and the features of a trained run, beside the run's own numbers."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch

from vla.conf.anomaly_baselines import BaselinesConfig
from vla.conf.models.uniad import UniADConfig
from vla.data.datasets.base import Datasets
from vla.data.materialize import get_datasets
from vla.errors import UserError
from vla.evaluation.anomaly.baselines import BASELINES, Baseline, PatchMemory, to_maps
from vla.evaluation.anomaly.results import METRICS, AnomalyMetrics, AnomalyResults
from vla.evaluation.anomaly.tables import TITLES, percent, rows, to_csv, to_markdown
from vla.models.anomaly.uniad import FEATURES, VISION
from vla.overwatch import initialize_overwatch
from vla.overwatch.distributed import DistState, destroy_distributed, initialize_distributed
from vla.training.evaluate import run_dir_of
from vla.training.evaluation_files import FOLDER, held_out_batches, replace_file
from vla.training.tasks.anomaly import AnomalyTask

overwatch = initialize_overwatch(__name__)

MODEL = "uniad"
Key = Callable[[str], str]  # of a class, the detector that it gets
KEYS: dict[str, Key] = {"": lambda name: "all", " per class": lambda name: name}


def run(config: BaselinesConfig) -> int:
    """The program behind scripts/anomaly_baselines.py: fit, evaluate, write tables, print the comparison.

    Writes `baselines/<name>.csv` and `.md` by class, and `baselines/comparison.md` with the means.

    Returns:
        Exit code 0.

    Raises:
        UserError: there is no complete checkpoint, or it is of another kind of model.
    """
    from vla.training.checkpoint_store import find_checkpoint
    from vla.training.inference import load_for_inference

    assert config.checkpoint is not None
    folder = find_checkpoint(config.checkpoint, prefer="best")
    dist = initialize_distributed(config.device)
    try:
        trained, processor, model = load_for_inference(folder, dist.device)
        if not isinstance(trained.model, UniADConfig):
            raise UserError(f"checkpoint: must be of an anomaly detector, got one of {type(trained.model).model_id}")
        dataset: Any = trained.dataset
        if config.dataset_root is not None:
            dataset = replace(dataset, root=config.dataset_root)
        datasets = get_datasets(dataset, trained.model, processor)
        found = compare(model, AnomalyTask(processor), datasets, config, dist.device)
    finally:
        destroy_distributed(dist)
    output = (config.output_dir or run_dir_of(folder) / FOLDER) / "baselines"
    output.mkdir(parents=True, exist_ok=True)
    for name, metrics in found.items():
        table, stem = rows(metrics), name.replace(" ", "-")
        replace_file(output / f"{stem}.csv", to_csv(table).encode())
        replace_file(output / f"{stem}.md", to_markdown(table).encode())
    text = comparison(found)
    replace_file(output / "comparison.md", text.encode())
    print(f"{text}\ntables: {output}")
    return 0


def comparison(found: dict[str, AnomalyMetrics]) -> str:
    """Means over the classes of every detector, as Markdown."""
    lines = ["| detector | " + " | ".join(TITLES.values()) + " |", "|---" + "|---:" * len(TITLES) + "|"]
    for name, metrics in found.items():
        lines.append(f"| {name} | " + " | ".join(percent(metrics.means.get(metric)) for metric in METRICS) + " |")
    return "\n".join(lines) + "\n"


@torch.no_grad()
def compare(
    model: Any, task: AnomalyTask, datasets: Datasets, config: BaselinesConfig, device: str
) -> dict[str, AnomalyMetrics]:
    """Metrics of the model and of every baseline, by name.

    Args:
        model: on `device`, in evaluation mode.
        task: of the run.
        datasets: of the run; fitted on the training split, evaluated on what is held out.
        config: which baselines.
        device: where features are computed; baselines run on the host.
    """
    variants = KEYS if config.per_class else {"": KEYS[""]}
    fitted: dict[str, dict[str, Baseline]] = {name + suffix: {} for name in config.names for suffix in variants}
    for features, batch in _features(model, task, replace(datasets, validation=datasets.train), config, device):
        for name in config.names:
            for suffix, key in variants.items():
                _add(fitted[name + suffix], name, [key(item) for item in batch.classes], features, config)
    for detectors in fitted.values():
        for detector in detectors.values():
            detector.finish()
    overwatch.info(f"fitted {', '.join(fitted)} on {len(datasets.train):,} pictures")

    settings = task.processor.config
    results = {name: AnomalyResults(settings.score_pool, settings.image_score) for name in (MODEL, *fitted)}
    for features, batch in _features(model, task, datasets, config, device):
        batch = replace(batch, features={FEATURES: features.to(device)})
        maps = {MODEL: model.predict(batch)}
        for name, detectors in fitted.items():
            key = KEYS[" per class" if name.endswith(" per class") else ""]
            parts = [detectors[key(item)].distances(features[row : row + 1]) for row, item in enumerate(batch.classes)]
            maps[name] = to_maps(torch.cat(parts), settings.input_size, config.sigma)
        for name, found in maps.items():
            results[name].add(batch.sample_ids, batch.classes, found, batch.masks, batch.labels, batch.is_real)
    return {name: found.compute(DistState()) for name, found in results.items()}


def _detector(detectors: dict[str, Baseline], key: str) -> Baseline:
    if key not in detectors:
        raise UserError(f"per_class: no picture of {key!r} is trained on, so that it has no baseline of its own")
    return detectors[key]


def _add(
    detectors: dict[str, Baseline], name: str, keys: list[str], features: torch.Tensor, config: BaselinesConfig
) -> None:
    for key in dict.fromkeys(keys):
        if key not in detectors:
            detectors[key] = PatchMemory(config.memory_size) if name == "patch-memory" else BASELINES[name]()
        detectors[key].add(features[[row for row, other in enumerate(keys) if other == key]])


def _features(
    model: Any, task: AnomalyTask, datasets: Datasets, config: BaselinesConfig, device: str
) -> Iterator[tuple[torch.Tensor, Any]]:
    """Features on the host, and their batches, of what `datasets` holds out."""
    source = model.feature_sources()[VISION]
    for batch in held_out_batches(datasets, config.batch_size, None):
        yield source.compute(task.prepare(batch, device))[FEATURES].float().cpu(), batch
