"""Findings about pictures: sizes, dark and frozen ones, and which way up they are stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla.data.errors import BadData
from vla.data.inspection.counts import listed
from vla.data.inspection.raw import LIBERO, RawData, RawEpisode, read_frames
from vla.overwatch.findings import Finding

SECTION = "Pictures"
STILL_CAMERA = "agentview"
_CHANGE = 12  # of 255: smaller changes of a pixel are noise
_DARK, _FLAT = 8, 2.0  # mean and standard deviation of a picture that shows nothing
_LEAST_FIT = 0.5  # share of the motion's places that the hand's place must explain
_FEW = 20  # moments in which something moves

# stored: whether a higher hand is in a higher row, whether a hand further left (of the robot) is in a higher column
_ORIENTATIONS = {
    (True, True): "bottom-up, as LIBERO's simulator gives them",
    (False, True): "upright",
    (False, False): "turned by 180 degrees, as copies for OpenVLA are",
    (True, False): "bottom-up and mirrored",
}


@dataclass(frozen=True)
class Orientation:
    """How the still camera's pictures are stored."""

    bottom_up: bool
    mirrored: bool
    fit: float  # share of the motion's places that the hand's place explains, 0 to 1

    def upright(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Frames [..., H, W, 3] as people want to see them."""
        frames = frames[..., ::-1, :, :] if self.bottom_up else frames
        return frames[..., :, ::-1, :] if self.mirrored else frames


def check(data: RawData, most: int) -> tuple[list[Finding], Orientation | None]:
    """Findings about the pictures of at most `most` episodes, and the orientation if it can be told."""
    chosen = spread(data.episodes, most)
    broken = unreadable(chosen)
    chosen = [episode for episode in chosen if episode not in broken]
    orientation = guess_orientation(chosen)
    found = [_sizes(data), *_contents(chosen), _orientation(orientation, data)]
    if broken:
        advice = "the files are damaged: fetch them again, or leave these episodes out"
        found.insert(1, Finding("reading", "broken", listed(list(broken.values()), 2), advice, SECTION))
    return found, orientation


def unreadable(episodes: list[RawEpisode]) -> dict[RawEpisode, str]:
    """Episodes whose pictures can't be decoded, and why. LIBERO's layout was checked when it was read."""
    found = {}
    for episode in episodes:
        try:
            for camera in episode.frames if episode.source is not None else ():
                read_frames(episode, camera)
        except BadData as error:
            found[episode] = str(error)
    return found


def spread(episodes: list[RawEpisode], most: int) -> list[RawEpisode]:
    """At most `most` of them, evenly spread."""
    picked = np.unique(np.linspace(0, len(episodes) - 1, min(most, len(episodes))).round().astype(int))
    return [episodes[number] for number in picked]


def _sizes(data: RawData) -> Finding:
    if not data.cameras:
        return Finding(
            "cameras", "broken", "no obs/<camera>_rgb or other pictures in any episode", "policies need to see", SECTION
        )
    shapes = {camera: {e.frames[camera][1:3] for e in data.episodes if camera in e.frames} for camera in data.cameras}
    detail = "; ".join(
        f"{camera} {' and '.join('x'.join(map(str, size)) for size in sorted(sizes))}"
        for camera, sizes in shapes.items()
    )
    missing = [f"{e.label} ({camera})" for camera in data.cameras for e in data.episodes if camera not in e.frames]
    if missing:
        return Finding("cameras", "broken", f"{detail}; missing in {listed(missing)}", "leave these out", SECTION)
    if any(len(sizes) > 1 for sizes in shapes.values()):
        return Finding("cameras", "broken", detail, "a dataset has pictures of one size: resize the others", SECTION)
    return Finding("cameras", "ok", detail, section=SECTION)


def _contents(episodes: list[RawEpisode]) -> Iterator[Finding]:
    """Pictures that show nothing, and cameras that stand still while the hand moves."""
    empty, frozen = [], []
    for episode in episodes:
        hand = episode.states.get("ee_pos")
        for camera in episode.frames:
            frames = read_frames(episode, camera)
            small = frames[:, ::4, ::4].reshape(len(frames), -1).astype(np.float32)
            dull = int(((small.mean(axis=1) < _DARK) | (small.std(axis=1) < _FLAT)).sum())
            if dull:
                empty.append(f"{episode.label} {camera} ({dull} of {len(frames)})")
            if hand is None or len(hand) != len(frames) or len(frames) < 2:
                continue
            moves = np.linalg.norm(np.diff(hand, axis=0), axis=1) > 2e-3
            stuck = int((moves & (np.diff(small, axis=0) == 0).all(axis=1)).sum())
            if stuck > 0.05 * len(frames):
                frozen.append(f"{episode.label} {camera} ({stuck} of {len(frames)})")
    looked = f"looked at {len(episodes)} episodes"
    if empty:
        advice = "a camera was covered, or the renderer failed: record them again"
        yield Finding("empty", "warning", f"black or of one colour: {listed(empty)}; {looked}", advice, SECTION)
    else:
        yield Finding("empty", "ok", f"none is black or of one colour; {looked}", section=SECTION)
    if not any("ee_pos" in episode.states for episode in episodes):
        return
    if frozen:
        advice = "the camera is slower than the robot: what is seen is old"
        yield Finding("frozen", "warning", f"the hand moves, the picture doesn't: {listed(frozen)}", advice, SECTION)
    else:
        yield Finding("frozen", "ok", f"pictures change when the hand moves; {looked}", section=SECTION)


# --- which way up ---


def guess_orientation(episodes: list[RawEpisode]) -> Orientation | None:
    """How the still camera's pictures are stored, by where pixels change when the hand moves; None: can't be told.

    LIBERO's camera looks at the robot from the front: upright, a higher hand is higher in the picture, and a hand
    further to the robot's left further to the right. The places of what changes are fitted to the hand's coordinates.
    """
    places, hands = [], []
    for episode in episodes:
        found = _motion(episode)
        if found is not None:
            places.append(found[0])
            hands.append(found[1])
    if not places:
        return None
    place = np.concatenate([item - item.mean(axis=0) for item in places])  # [N, 2]: row, column
    hand = np.concatenate([item - item.mean(axis=0) for item in hands])  # [N, 3]: x, y, z in metres
    if len(place) < _FEW:
        return None
    slopes, *_ = np.linalg.lstsq(hand, place, rcond=None)
    fit = float(1 - ((place - hand @ slopes) ** 2).sum() / max(float((place**2).sum()), 1e-9))
    if fit < _LEAST_FIT:
        return None
    return Orientation(bottom_up=bool(slopes[2, 0] > 0), mirrored=bool(slopes[1, 1] < 0), fit=fit)


def _motion(episode: RawEpisode) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Row and column [N, 2] of the middle of what changes around a step, and the hand's place [N, 3] there."""
    hand = episode.states.get("ee_pos")
    shape = episode.frames.get(STILL_CAMERA)
    if hand is None or shape is None or len(hand) != shape[0] or len(hand) < 3:
        return None
    grey = read_frames(episode, STILL_CAMERA).mean(axis=-1, dtype=np.float32)
    change = np.abs(grey[2:] - grey[:-2])
    change = np.where(change > _CHANGE, change, 0)
    weight = change.sum(axis=(1, 2))
    moves = weight > 0.05 * max(float(weight.max()), 1.0)
    weight = np.maximum(weight, 1)
    rows = (change.sum(axis=2) * np.arange(grey.shape[1])).sum(axis=1) / weight
    columns = (change.sum(axis=1) * np.arange(grey.shape[2])).sum(axis=1) / weight
    place = np.stack([rows, columns], axis=1)[moves].astype(np.float64)
    return place, hand[1:-1][moves]


def _orientation(guess: Orientation | None, data: RawData) -> Finding:
    said = {str(item.get("macros_image_convention", "")) for item in data.attributes.values()} - {""}
    claim = f"; the files say {', '.join(sorted(said))}" if said else ""
    if data.layout != LIBERO:
        advice = (
            "look at the contact sheet, which shows them as they are stored, and state "
            "--dataset.conventions.camera_orientation: is left left, and up up?"
        )
        return Finding("orientation", "note", "no file says which way up pictures are stored", advice, SECTION)
    if guess is None:
        advice = "look at the contact sheet, which shows them as they are stored; LIBERO's are upside down"
        return Finding("orientation", "note", f"can't be told from the pictures{claim}", advice, SECTION)
    name = _ORIENTATIONS[guess.bottom_up, not guess.mirrored]
    detail = f"stored {name}: the hand's place explains {guess.fit:.0%} of where they change{claim}"
    if guess.bottom_up and not guess.mirrored:
        return Finding("orientation", "ok", detail, section=SECTION)
    advice = "readers here take them as bottom-up: store image[::-1], or train with --model.processor.orientation raw"
    if guess.mirrored and not guess.bottom_up:
        advice = (
            "readers here take them as bottom-up: store image[::-1, ::-1], or use orientation raw with OpenVLA's models"
        )
    return Finding("orientation", "warning", detail, advice, SECTION)
