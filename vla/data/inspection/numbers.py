"""Findings about the values of actions and robot states, after those about counts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vla.data.datasets.episodes import kept_steps
from vla.data.datasets.libero_format import ACTION_DIM
from vla.data.inspection import counts
from vla.data.inspection.counts import listed
from vla.data.inspection.raw import LIBERO, RawData, RawEpisode
from vla.overwatch.findings import Finding

VALUES = "Actions and states"
_TINY = 1e-6  # a spread below it is rounding
_FAR = 1.0  # how far beyond the 1st and 99th percentile, in their distance, a value is far out
_MANY_NOOPS, _MANY_REPEATS = 0.05, 0.5
_SETTLE = 15  # steps that fingers need to move after a command


def check(data: RawData) -> Iterator[Finding]:
    """All of them."""
    yield from counts.check(data)
    yield _finite(data)
    yield _constant(data)
    yield _range(data)
    yield _tails(data)
    yield gripper(data)
    yield _noops(data)
    yield _repeats(data)


# --- values ---


def _finite(data: RawData) -> Finding:
    bad = []
    for episode in data.episodes:
        for name, values in {"actions": episode.actions, **episode.states}.items():
            steps = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
            if len(steps):
                bad.append(f"{episode.label} {name} at {len(steps)} steps, first {steps[0]}")
    if bad:
        advice = "such episodes can't be learned from: record them again, or --dataset.on_bad_episode skip"
        return Finding("NaN, infinity", "broken", listed(bad), advice, VALUES)
    return Finding("NaN, infinity", "ok", "none", section=VALUES)


def _columns(data: RawData) -> list[tuple[str, NDArray[np.float64]]]:
    """Names and finite values of every dimension of the actions and states, but the gripper's command."""
    actions = data.actions()
    names = data.action_names[: actions.shape[1]]
    last = "gripper" if data.layout == LIBERO else names[-1]  # in other layouts whatever it is called
    found = [(f"action {name}", actions[:, i]) for i, name in enumerate(names) if name != last]
    for key in dict.fromkeys(key for episode in data.episodes for key in episode.states):
        parts = [episode.states[key] for episode in data.episodes if key in episode.states]
        widths = {part.shape[1:] for part in parts}
        if len(widths) == 1 and len(next(iter(widths))) == 1:
            values = np.concatenate(parts)
            found += [(f"{key} {number}", values[:, number]) for number in range(values.shape[1])]
    return [(name, values[np.isfinite(values)]) for name, values in found]


def _constant(data: RawData) -> Finding:
    still = [f"{name} ({v[0]:g})" for name, v in _columns(data) if len(v) and np.ptp(v) < _TINY]
    if still:
        advice = "it will be predicted as that constant; is a column missing, or a unit wrong?"
        return Finding("constant", "warning", listed(still, 4), advice, VALUES)
    return Finding("constant", "ok", "every dimension of actions and states moves", section=VALUES)


def _range(data: RawData) -> Finding:
    actions = data.actions()
    if data.layout != LIBERO:
        return _plain_range(data, actions)
    if actions.shape[1] != ACTION_DIM:
        advice = "LIBERO's are x, y, z, three rotations, gripper; other layouts need a dataset of their own"
        return Finding("range", "broken", f"actions have {actions.shape[1]} dimensions, not 7", advice, VALUES)
    finite = np.where(np.isfinite(actions), actions, 0.0)
    low, high = finite.min(axis=0), finite.max(axis=0)
    detail = ", ".join(f"{name} {a:.2g} to {b:.2g}" for name, a, b in zip(data.action_names, low, high, strict=True))
    if max(-low.min(), high.max()) > 1 + _TINY:
        advice = "the simulator's controller clips them to [-1, 1]: are these metres, or absolute positions?"
        return Finding("range", "warning", detail, advice, VALUES)
    if np.abs(finite[:, :3]).max() < 0.05:
        advice = "1.0 stands for 5 cm: are these metres? They would have to be divided by 0.05"
        return Finding("range", "warning", detail, advice, VALUES)
    return Finding("range", "ok", detail, section=VALUES)


def _plain_range(data: RawData, actions: NDArray[np.float64]) -> Finding:
    """Of data of which nobody knows what its numbers should be."""
    finite = np.where(np.isfinite(actions), actions, 0.0)
    low, high = finite.min(axis=0), finite.max(axis=0)
    shown = [f"{n} {a:.2g} to {b:.2g}" for n, a, b in zip(data.action_names, low, high, strict=False)]
    advice = "state their units, what they are relative to and the rotation's form: --dataset.conventions"
    return Finding("range", "note", listed(shown, 16), advice, VALUES)


def _tails(data: RawData) -> Finding:
    """What `bounds_q99`, the default normalisation, cuts off."""
    outside, far = [], []
    for name, values in _columns(data):
        if not name.startswith("action") or not len(values):
            continue
        low, high = np.quantile(values, [0.01, 0.99])
        outside.append(float(np.mean((values < low) | (values > high))))
        width = high - low
        beyond = max(low - values.min(), values.max() - high)
        if beyond > max(_FAR * width, _TINY):
            times = f"{beyond / width:.1f} times" if width > _TINY else "infinitely many times"
            far.append(f"{name.removeprefix('action ')} by {times} their distance")
    detail = f"{np.mean(outside):.1%} of the values of an action's motions lie outside of their q01 to q99"
    if far:
        advice = (
            "they are clipped by --model.processor.normalization bounds_q99; bounds keeps them, and shrinks the rest"
        )
        return Finding("outside q01-q99", "warning", f"{detail}; far beyond: {listed(far, 6)}", advice, VALUES)
    return Finding("outside q01-q99", "ok", f"{detail}, and none far", section=VALUES)


# --- the gripper ---


def gripper(data: RawData) -> Finding:
    """Which command closes it: by how the fingers move after a change of the command."""
    commands = np.concatenate([episode.actions[:, -1] for episode in data.episodes])
    values = np.unique(commands[np.isfinite(commands)])
    shown = ", ".join(f"{value:g}" for value in values[:4]) + (", ..." if len(values) > 4 else "")
    evidence = [item for episode in data.episodes for item in _finger_moves(episode)]
    detail = f"commands {shown}"
    if data.layout != LIBERO:
        return _stated_gripper(data, detail, evidence)
    if len(values) == 1:
        return Finding("gripper", "warning", f"{detail}: it never moves", "is it the right column?", VALUES)
    closes_when_higher = sum(move < 0 for move in evidence)
    share = closes_when_higher / len(evidence) if evidence else 0.5
    if max(share, 1 - share) < 0.8:
        advice = "compare with the contact sheet; LIBERO's -1 opens, +1 closes"
        return Finding("gripper", "note", f"{detail}; what closes can't be told from the fingers", advice, VALUES)
    higher = share > 0.5
    right = max(closes_when_higher, len(evidence) - closes_when_higher)
    detail += f"; the {'higher' if higher else 'lower'} one closes (fingers moved so after {right} of {len(evidence)})"
    if not higher:
        advice = "LIBERO's +1 closes: multiply the column by -1, or policies will hold when they should let go"
        return Finding("gripper", "warning", detail, advice, VALUES)
    if values.min() >= 0:
        return Finding("gripper", "warning", detail, "LIBERO's are -1 and +1: store 2 x value - 1", VALUES)
    return Finding("gripper", "ok", detail, section=VALUES)


def _stated_gripper(data: RawData, detail: str, evidence: list[float]) -> Finding:
    """Of data whose convention has to be stated: what the fingers say about it."""
    commands = np.concatenate([episode.actions[:, -1] for episode in data.episodes])
    low, high = np.nanmin(commands), np.nanmax(commands)
    detail = f"the last dimension of actions, '{data.action_names[-1]}': {detail}"
    share = sum(move < 0 for move in evidence) / len(evidence) if evidence else 0.5
    if low == high:
        return Finding("gripper", "warning", f"{detail}: it never moves", "is it the right column?", VALUES)
    if max(share, 1 - share) < 0.8:
        advice = "look at the contact sheet, and state --dataset.conventions.gripper_open and gripper_closed"
        return Finding("gripper", "note", f"{detail}; what closes can't be told from the state", advice, VALUES)
    is_open, closed = (low, high) if share > 0.5 else (high, low)
    detail += f"; the {'higher' if share > 0.5 else 'lower'} one closes (the fingers of the state moved so)"
    advice = f"--dataset.conventions.gripper_open {is_open:g} --dataset.conventions.gripper_closed {closed:g}"
    return Finding("gripper", "ok", detail, advice, VALUES)


def _finger_moves(episode: RawEpisode) -> Iterator[float]:
    """For each change of the command, how the fingers' distance changed, in metres, per unit that it went up."""
    fingers = episode.states.get("gripper_states")
    if fingers is None or fingers.ndim != 2 or len(fingers) != len(episode.actions):
        return
    width = np.abs(fingers).sum(axis=1)
    command = episode.actions[:, -1]
    changes = np.flatnonzero(np.abs(np.diff(command)) > 0.5) + 1
    for start, following in zip(changes, [*changes[1:], len(command)], strict=False):
        end = min(start + _SETTLE, following, len(command) - 1)
        move = (width[end] - width[start]) * np.sign(command[start] - command[start - 1])
        if abs(move) > 1e-3:
            yield float(move)


# --- steps that say nothing ---


def _noops(data: RawData) -> Finding:
    steps = sum(len(episode.actions) for episode in data.episodes)
    dropped = sum(len(episode.actions) - len(kept_steps(episode.actions, True)) for episode in data.episodes)
    detail = f"{dropped:,} of {steps:,} steps ({dropped / steps:.1%}) move nothing and repeat the gripper's command"
    if dropped / steps > _MANY_NOOPS:
        advice = "--dataset.filter_noops true leaves them out; policies that learn them may stand still for ever"
        return Finding("no-ops", "warning", detail, advice, VALUES)
    return Finding("no-ops", "ok", detail, section=VALUES)


def _repeats(data: RawData) -> Finding:
    """Actions equal to the one before, and whole episodes that are stored twice."""
    same, steps, seen = 0, 0, dict[bytes, str]()
    twice = []
    for episode in data.episodes:
        same += int((np.diff(episode.actions, axis=0) == 0).all(axis=1).sum())
        steps += len(episode.actions) - 1
        content = np.ascontiguousarray(episode.actions).tobytes()
        if content in seen:
            twice.append(f"{episode.label} = {seen[content]}")
        seen.setdefault(content, episode.label)
    detail = f"{same / max(steps, 1):.1%} of the actions equal the one before"
    if twice:
        advice = "keep one of each: held-out episodes that were trained on say nothing"
        return Finding("duplicates", "warning", f"the same actions: {listed(twice)}; {detail}", advice, VALUES)
    if same > _MANY_REPEATS * steps:
        advice = "was it recorded at a lower rate than it is stored at?"
        return Finding("duplicates", "warning", detail, advice, VALUES)
    return Finding("duplicates", "ok", f"no episode twice; {detail}", section=VALUES)
