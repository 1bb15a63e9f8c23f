"""The learning rate over a run as a dry run shows it: over its steps, or over its epochs when steps aren't known."""

from dataclasses import dataclass, replace

from vla.conf.stage import ScheduleConfig
from vla.training.schedules import get_schedule, in_steps, warmup_steps

_WIDTH = 48  # values of a curve
_WARMUP_WIDTH = 12  # of them for a warm-up that has another scale than what follows
_MANY = 10**9  # steps of a run of unknown length; cosine and linear depend on the share of them that is over
_DECAYS = 3  # decays of step and multistep that are named


@dataclass(frozen=True)
class RateCurve:
    """Learning rates of a run.

    Attributes:
        span: what `values` are spread over, in words.
        values: at even distances over `span`.
        points: what a reader wants to know: name, when, learning rate.
    """

    span: str
    values: list[float]
    points: list[tuple[str, str, float]]


def rate_curve(
    schedule: ScheduleConfig, base: float, total_steps: int | None, epochs: int, steps_per_epoch: int | None = None
) -> RateCurve:
    """The curve of a run of `total_steps`; of `epochs` whose steps aren't known when that is None."""
    decays = schedule.name in ("step", "multistep")
    if decays and schedule.unit == "epochs":
        if steps_per_epoch is None:
            return _over_decays(schedule, base, epochs)
        schedule = in_steps(schedule, steps_per_epoch)
    if total_steps:
        return _over_steps(schedule, base, total_steps)
    if decays:
        return _over_decays(schedule, base)
    if schedule.warmup_steps:
        return _warmup_then_epochs(schedule, base, epochs)
    return _over_epochs(schedule, base, epochs)


def _spread(last: int, count: int, first: int = 0) -> list[int]:
    """Up to `count` steps from `first` to `last`, both included."""
    count = min(count, last - first + 1)
    return [first + round(i * (last - first) / max(count - 1, 1)) for i in range(count)]


def _over_steps(schedule: ScheduleConfig, base: float, total_steps: int) -> RateCurve:
    factor = get_schedule(schedule, total_steps)
    last = total_steps - 1
    warmup = warmup_steps(schedule, total_steps)
    steps = {"first": 0, "end of warm-up": warmup, "half way": last // 2, "last": last}
    if not warmup:
        del steps["end of warm-up"]
    named = [(name, min(step, last)) for name, step in sorted(steps.items(), key=lambda item: item[1])]
    return RateCurve(
        f"steps 0 to {last:,}",
        [base * factor(step) for step in _spread(last, _WIDTH)],
        [(name, f"step {step:,}", base * factor(step)) for name, step in named],
    )


def _over_epochs(schedule: ScheduleConfig, base: float, epochs: int) -> RateCurve:
    """A warm-up that is a share of the run, or none: every rate has its epoch."""
    factor = get_schedule(schedule, _MANY)
    shares = {"end of warm-up": schedule.warmup_ratio, "half way": 0.5, "end": 1.0}
    if not schedule.warmup_ratio:
        shares = {"first": 0.0, "half way": 0.5, "end": 1.0}
    return RateCurve(
        f"epochs 0 to {epochs}",
        [base * factor(step) for step in _spread(_MANY, _WIDTH)],
        [
            (name, f"epoch {share * epochs:.3g}", base * factor(round(share * _MANY)))
            for name, share in sorted(shares.items(), key=lambda item: item[1])
        ],
    )


def _warmup_then_epochs(schedule: ScheduleConfig, base: float, epochs: int) -> RateCurve:
    """A warm-up of a number of steps, whose epoch isn't known; what follows ends with the last epoch."""
    warmup = schedule.warmup_steps or 0
    total = warmup + _MANY
    factor = get_schedule(schedule, total)
    steps = [*_spread(warmup, _WARMUP_WIDTH + 1)[:-1], *_spread(total, _WIDTH - _WARMUP_WIDTH, warmup)]
    return RateCurve(
        f"steps 0 to {warmup:,}, then, on another scale, the rest of {epochs} epochs",
        [base * factor(step) for step in steps],
        [
            ("first", "step 0", base * factor(0)),
            ("end of warm-up", f"step {warmup:,}", base * factor(warmup)),
            ("half way from there", f"to epoch {epochs}", base * factor(warmup + _MANY // 2)),
            ("end", f"epoch {epochs}", base * factor(total)),
        ],
    )


def _over_decays(schedule: ScheduleConfig, base: float, epochs: int | None = None) -> RateCurve:
    """Decays at given steps, however many there are in all; a warm-up that is a share of the run is left out.

    Args:
        epochs: of the run, where the schedule counts epochs; a warm-up in steps is left out, too.
    """
    warmup = 0 if epochs else schedule.warmup_steps or 0
    left_out = bool(schedule.warmup_steps if epochs else schedule.warmup_ratio and schedule.warmup_steps is None)
    factor = get_schedule(replace(schedule, warmup_steps=warmup), _MANY)
    if schedule.name == "step":
        after = warmup // schedule.step_size
        decays = tuple((after + i) * schedule.step_size for i in range(1, _DECAYS + 1))
    else:
        decays = schedule.milestones
    last = epochs - 1 if epochs else max((1, warmup, *decays)) * 5 // 4
    points = [("first", 0), *([("end of warm-up", warmup)] if warmup else [])]
    points += [("decay", step) for step in decays[:_DECAYS] if warmup <= step <= last]
    unit = "epoch" if epochs else "step"
    span = f"epochs 0 to {epochs}" if epochs else f"steps 0 to {last:,}, if there are as many"
    return RateCurve(
        span + (", without the warm-up" if left_out else ""),
        [base * factor(step) for step in _spread(last, _WIDTH)],
        [(name, f"{unit} {step:,}", base * factor(step)) for name, step in points],
    )
