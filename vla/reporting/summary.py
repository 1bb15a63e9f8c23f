"""What the report says in words and tables: headline, timings, parameters, evaluation, versions."""

from typing import Any, NamedTuple

import numpy as np

from vla.reporting.history import Series
from vla.reporting.run_folder import ACTIONS, CLASSES, RunRecord


class Fact(NamedTuple):
    """One labelled value, with a remark."""

    label: str
    value: str
    note: str = ""


def count(number: float) -> str:
    """1234567 -> "1.23 M"."""
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(number) >= limit:
            return f"{number / limit:.3g}{unit}"
    return f"{number:.0f}"


def duration(seconds: float) -> str:
    """3725.2 -> "1 h 02 min"."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def figure(value: Any) -> str:
    """A number with three significant digits; anything else as it is."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _choice(config: dict, name: str) -> str:
    value = config.get(name)
    return str(value.get("type", "")) if isinstance(value, dict) else ""


def stage_name(config: dict) -> str:
    """The stage as the command line spells it."""
    return str(config.get("stage", "")).lower().replace("_", "-")


def _stage_config(config: dict) -> dict:
    model = config.get("model")
    value = model.get(stage_name(config).replace("-", "_")) if isinstance(model, dict) else None
    return value if isinstance(value, dict) else {}


def subtitle(record: RunRecord) -> str:
    """Which model learns from what."""
    model, dataset = _choice(record.config, "model"), _choice(record.config, "dataset")
    parts = [part for part in (model, dataset, stage_name(record.config)) if part]
    return " · ".join(parts) or "The configuration of this run is not known."


def progress_note(record: RunRecord) -> str:
    """A sentence when fewer steps or epochs were logged than the stage asks for; an empty string otherwise."""
    stage, last = _stage_config(record.config), record.history.last_step
    if last is None:
        return "No training step was logged."
    max_steps, epochs = stage.get("max_steps"), stage.get("epochs")
    if isinstance(max_steps, int):
        return f"The log ends at step {last} of {max_steps}." if last < max_steps else ""
    series = record.history.get("epoch")
    epoch = series.last if series is not None else None
    if not isinstance(epochs, int) or epoch is None or epoch > epochs - 0.02:
        return ""
    return f"The log ends in epoch {epoch:.2f} of {epochs}: stopped early, interrupted, or still running."


def headline(record: RunRecord) -> list[Fact]:
    """The figures that a reader looks for first."""
    facts: list[Fact] = []
    evaluation, history = record.evaluation, record.history
    for key, label, unit in (
        ("translation_l1", "translation error", "mm"),
        ("rotation_l1", "rotation error", "°"),
    ):
        if isinstance(evaluation.get(key), int | float):
            baseline = evaluation.get(f"{key}_baseline")
            note = f"average action: {figure(baseline)}\u00a0{unit}" if isinstance(baseline, float) else ""
            facts.append(Fact(label, f"{evaluation[key]:.3g} {unit}", note))
    accuracy = evaluation.get("gripper_accuracy")
    if isinstance(accuracy, int | float):
        baseline = evaluation.get("gripper_accuracy_baseline")
        note = f"always the same: {baseline:.1%}" if isinstance(baseline, float) else ""
        facts.append(Fact("gripper agrees", f"{accuracy:.1%}", note))
    for key, label in (("token_accuracy", "tokens foreseen"), ("perplexity", "perplexity")):
        if isinstance(evaluation.get(key), int | float):
            value = evaluation[key]
            facts.append(Fact(label, f"{value:.1%}" if key == "token_accuracy" else figure(float(value)), "held out"))
    for key, label in (("image_auroc_max", "image AUROC"), ("pixel_auroc", "pixel AUROC"), ("pixel_aupro", "AUPRO")):
        if isinstance(evaluation.get(key), int | float):
            facts.append(Fact(label, f"{evaluation[key]:.1%}", "mean over classes"))
    loss = history.get("eval/loss")
    if loss is not None and len(loss.finite):
        best = loss.finite.values.argmin()
        facts.append(
            Fact("held-out loss", f"{loss.finite.values[best]:.3g}", f"best, step {int(loss.finite.steps[best])}")
        )
    train = history.get("train/loss")
    if train is not None and train.last is not None:
        facts.append(Fact("training loss", f"{train.last:.3g}", f"last, step {history.last_step}"))
    if history.total_seconds is not None:
        facts.append(Fact("training time", duration(history.total_seconds), f"{history.last_step} steps"))
    if record.parameters:
        trainable, total = sum(row.trainable for row in record.parameters), sum(row.total for row in record.parameters)
        facts.append(Fact("parameters trained", count(trainable), f"of {count(total)}"))
    return facts


def evaluation_facts(record: RunRecord) -> list[Fact]:
    """The numbers of an evaluation; those of models that act or find defects have a table of their own."""
    if ACTIONS in record.evaluation or CLASSES in record.evaluation:
        return []
    return [
        Fact(name.replace("_", " "), f"{value:,}" if isinstance(value, int) else figure(value))
        for name, value in record.evaluation.items()
        if isinstance(value, int | float) and name != "seconds"
    ]


def _step_seconds(record: RunRecord) -> np.ndarray:
    """Seconds of all steps of each log interval; the log holds their mean."""
    step_time = record.history.get("train/step_time")
    if step_time is None:
        return np.zeros(0)
    finite = step_time.finite
    return finite.values * np.diff(finite.steps, prepend=0.0)


def _time_average(series: Series, seconds: np.ndarray) -> float:
    """Mean of a series with the `seconds` of its log intervals as weights, where they are known."""
    values = series.finite.values
    known = len(values) == len(seconds) and seconds.sum() > 0
    return float(np.average(values, weights=seconds if known else None))


def _step_facts(record: RunRecord) -> list[Fact]:
    facts: list[Fact] = []
    history, seconds = record.history, _step_seconds(record)
    step_time = history.get("train/step_time")
    if step_time is not None and len(step_time.finite):
        for label, q in (("median", 50), ("95th percentile", 95)):
            value = duration(step_time.percentile(q) or 0.0)
            facts.append(Fact(f"optimizer step, {label}", value, "over the log entries"))
    rate = history.get("train/samples_per_second")
    if rate is not None and rate.mean is not None:
        facts.append(Fact("throughput", f"{_time_average(rate, seconds):.3g} samples/s"))
    tokens = history.get("training_stats/avg_tokens_per_second")
    if tokens is not None and tokens.mean is not None:
        facts.append(Fact("tokens", f"{_time_average(tokens, seconds):,.0f} tokens/s"))
    wait = history.get("train/data_wait")
    if wait is not None and wait.mean is not None:
        facts.append(Fact("waiting for data", f"{_time_average(wait, seconds):.1%}", "of the time of the steps"))
    used = history.get("train/mfu")
    if used is not None and used.mean is not None:
        facts.append(Fact("model FLOPs utilisation", f"{_time_average(used, seconds):.1%}", "of the device's peak"))
    memory = history.get("train/memory_gib")
    if memory is not None and len(memory.finite):
        facts.append(Fact("memory at most", f"{memory.finite.values.max():.3g} GiB", "of one process"))
    return facts


def timings(record: RunRecord) -> list[Fact]:
    """Where the time went. A row without a measurement is left out."""
    history, whole, steps = record.history, record.history.total_seconds, float(_step_seconds(record).sum())
    facts: list[Fact] = []

    def share(seconds: float) -> str:
        return f"{seconds / whole:.1%} of it" if whole else ""

    if whole is not None:
        facts.append(Fact("training in all", duration(whole), f"{history.last_step} optimizer steps"))
    if steps:
        facts.append(Fact("optimizer steps", duration(steps), share(steps)))
    named = [("evaluation during training", "eval/time"), ("saving checkpoints", "train/save_time")]
    measured = [(label, series) for label, key in named if (series := history.get(key)) is not None]
    for label, series in measured:
        seconds = float(series.finite.values.sum())
        facts.append(Fact(label, duration(seconds), share(seconds)))
    if not measured and whole is not None and steps and whole > steps:
        facts.append(Fact("evaluation and saving", duration(whole - steps), share(whole - steps)))
    facts += _step_facts(record)
    after = record.evaluation.get("seconds")
    if isinstance(after, int | float):
        facts.append(Fact("evaluation on held-out data", duration(after), "after training"))
    return facts


def flatten(mapping: dict, prefix: str = "") -> list[Fact]:
    """Nested dictionaries as dotted labels and values."""
    facts: list[Fact] = []
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            facts += flatten(value, f"{name}.")
        else:
            text = ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)
            facts.append(Fact(name, text))
    return facts
