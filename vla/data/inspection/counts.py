"""Findings about counts, lengths, instructions and success."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from vla.conf.datasets import LiberoConfig
from vla.data.datasets.episodes import Scan
from vla.data.datasets.hdf5_index import scan
from vla.data.datasets.libero_format import PROPRIO
from vla.data.inspection.raw import RawData
from vla.errors import UserError
from vla.overwatch.findings import Finding

COUNTS = "Counts"


def listed(items: Sequence[str], most: int = 3) -> str:
    """The first few, and how many more there are."""
    more = len(items) - most
    return ", ".join(items[:most]) + (f" and {more} more" if more > 0 else "")


def read_as_training_does(data: RawData) -> Scan | str:
    """What the dataset makes of the files, bad episodes left out; or the line that it fails with."""
    if data.read_as_training is not None:
        try:
            return data.read_as_training()
        except UserError as error:
            return str(error)
    common = [camera for camera in data.cameras if sum(camera in e.frames for e in data.episodes) > 1] or data.cameras
    proprio = all(len(episode.states) == len(PROPRIO) for episode in data.episodes)
    single = () if len(data.files) > 1 else (data.episodes[0].task,)
    config = LiberoConfig(root=data.root, tasks=single, on_bad_episode="skip")
    try:
        return scan(config, tuple(common), proprio)
    except UserError as error:
        return str(error)


def check(data: RawData) -> Iterator[Finding]:
    """All of them."""
    yield from _counts(data)
    yield _lengths(data)
    yield from _instructions(data)
    yield _success(data)


def _counts(data: RawData) -> Iterator[Finding]:
    rows = sum(len(episode.actions) for episode in data.episodes)
    given = f"{len(data.episodes)} episodes, {rows:,} steps, {len(data.instructions)} tasks in {len(data.files)} files"
    found = read_as_training_does(data)
    if isinstance(found, str):
        yield Finding("in and out", "broken", f"{given}; training reads none of them: {found}", "mend that", COUNTS)
        return
    samples = sum(len(episode.rows) for episode in found.episodes)
    detail = f"{given}; training reads {len(found.episodes)} episodes, {samples:,} samples"
    after = sum(episode.alignment == "after" for episode in found.episodes)
    reason = f", since nothing was observed before the first action of {after} episodes" if after else ""
    bad = list(dict.fromkeys([*data.unreadable, *found.skipped]))
    if bad:
        advice = "record them again, or leave them out with --dataset.on_bad_episode skip"
        yield Finding("in and out", "broken", f"{detail}; can't be used: {listed(bad)}", advice, COUNTS)
    elif samples + after == rows:
        yield Finding("in and out", "ok", detail + reason, section=COUNTS)
    else:
        advice = "steps before the attribute learn_from are left out on purpose"
        yield Finding("in and out", "note", f"{detail}: {rows - samples:,} steps fewer", advice, COUNTS)
    yield _claims(data)


def _claims(data: RawData) -> Finding:
    """What files say about themselves against what is in them."""
    wrong = list(data.claims) + [
        f"{e.label} says {e.num_samples} steps and has {len(e.actions)}"
        for e in data.episodes
        if e.num_samples not in (None, len(e.actions))
    ]
    number = Counter(episode.task for episode in data.episodes)
    for task, attributes in data.attributes.items():
        if "num_demos" in attributes and int(attributes["num_demos"]) != number[task]:
            wrong.append(f"{task} says {int(attributes['num_demos'])} demonstrations and has {number[task]}")
    if wrong:
        advice = "a file may have been cut short: compare it with where it came from"
        return Finding("claims", "warning", listed(wrong), advice, COUNTS)
    return Finding("claims", "ok", "files say of themselves what is in them", section=COUNTS)


def _lengths(data: RawData) -> Finding:
    lengths = np.array([len(episode.actions) for episode in data.episodes])
    middle = float(np.median(lengths))
    detail = f"{lengths.min()} to {lengths.max()} steps, half of the episodes below {middle:.0f}"
    odd = [
        f"{e.label} ({len(e.actions)})" for e in data.episodes if not middle / 3 <= len(e.actions) <= 3 * middle
    ]  # fmt: skip
    if odd:
        advice = "look at them: cut short, or with a long wait?"
        return Finding("lengths", "warning", f"{detail}; far from that: {listed(odd)}", advice, COUNTS)
    return Finding("lengths", "ok", detail, section=COUNTS)


def _instructions(data: RawData) -> Iterator[Finding]:
    per_task = Counter(episode.task for episode in data.episodes)
    missing = [task for task, text in data.instructions.items() if not text]
    if missing:
        advice = "name the file after it, or write language_instruction into the attribute problem_info"
        yield Finding("instructions", "broken", f"none in {listed(missing)}", advice, COUNTS)
    again = [text for text, count in Counter(data.instructions.values()).items() if count > 1 and text]
    if again:
        advice = "fine where scenes differ; else the tasks can't be told apart"
        yield Finding("instructions", "note", f"several files are told {listed(again, 2)!r}", advice, COUNTS)
    if not missing and not again:
        fewest, most = min(per_task.values()), max(per_task.values())
        spread = f"{fewest}{f' to {most}' if most > fewest else ''} episodes each"
        yield Finding("instructions", "ok", f"{len(per_task)} different ones, {spread}", section=COUNTS)


def _success(data: RawData) -> Finding:
    rewards = [episode.reward for episode in data.episodes if episode.reward is not None]
    if not rewards:
        return Finding("success", "note", "no rewards are stored: nobody knows which episodes succeed", "", COUNTS)
    good = sum(reward > 0 for reward in rewards)
    detail = f"{good} of {len(rewards)} episodes end with a reward"
    if good < len(rewards):
        bad = [e.label for e in data.episodes if e.reward is not None and e.reward <= 0]
        return Finding("success", "warning", f"{detail}; without: {listed(bad)}", "leave failures out", COUNTS)
    return Finding("success", "ok", detail, section=COUNTS)
