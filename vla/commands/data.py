"""`vla data`: record, render and fetch datasets (scripts/data.py)."""

import functools
import os
import sys
from collections.abc import Callable
from typing import TypeVar

from vla.commands.program import Action, Menu
from vla.conf.download import DownloadConfig, MixConfig
from vla.conf.inspection import InspectConfig
from vla.conf.record import RecordConfig
from vla.conf.render_defects import RenderDefectsConfig
from vla.conf.render_vqa import RenderVQAConfig
from vla.conf.watching import WatchFramesConfig

Config = TypeVar("Config")

DOC = """Datasets: record demonstrations in the LIBERO simulator, render pictures with questions, fetch published ones.

    {program} record --suite libero-object --demos_per_task 50 --workers 2
    {program} record --suite libero-object --tasks 0,3 --demos_per_task 5 --output DIR
    {program} record --suite libero-spatial --demos_per_task 10 --other_targets 10 --output DIR
    {program} render-vqa --output data/vqa-rendered --images 4000 --workers 2
    {program} render-defects --output data/defects --workers 2
    {program} watch-frames --demonstrations data/libero/object --output data/watch
    {program} download --dataset llava-v15 --root data
    {program} download --dataset llava-v15 --root data --part align
    {program} mix --dataset llava-lvis4v --root data
    {program} doctor experiments/data/libero-mini
    {program} record --help

record: a scripted expert plays the tasks, and its successes are written as official LIBERO HDF5 files. The same command
goes on where it was interrupted; with a higher demos_per_task it goes on from finished files. Needs the libero extra.
render-vqa: pictures of blocks on a table with captions, and questions whose answers are true, in LLaVA's layout.
render-defects: surfaces and objects, faultless ones and ones with known defects, in MVTec-AD's layout.
watch-frames: frames of demonstrations, or of an evaluation's successes (--evaluation), in MVTec-AD's layout: what an
anomaly detector that watches a policy learns from, and what its threshold comes from.
download: LLaVA v1.5's captions, dialogues and images (--part align,coco,... for some of them; 100 GB in all), or
LVIS-Instruct-4V's dialogues. What is there is left alone, and a transfer that broke goes on where it broke.
doctor: what is in demonstrations of LIBERO's layout, LeRobot's or RLDS: counts, bad values, the gripper's and the
pictures' conventions, each with what to do about it, and a contact sheet.
mix: the annotation files of LLaVA without text-only rows, with LVIS-Instruct-4V, with LRV-Instruct, and with both.
"""


def _goes_on(command: Callable[[Config], int]) -> Callable[[Config], int]:
    """`command`, which, stopped by Ctrl-C, says in a line how to go on, and ends with exit code 130."""

    @functools.wraps(command)
    def run(config: Config) -> int:
        try:
            return command(config)
        except KeyboardInterrupt:
            print("interrupted; the same command goes on where it stopped", file=sys.stderr)
            return 130

    return run


def _share_cores() -> None:
    """Let each of the processes that work side by side compute with one thread; before anything that counts cores."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@_goes_on
def record(config: RecordConfig) -> int:
    """Record demonstrations; returns the exit code."""
    _share_cores()
    from vla.evaluation.simulator.record_suite import record  # imports h5py, which --help does without

    return record(config)


@_goes_on
def render_vqa(config: RenderVQAConfig) -> int:
    """Render pictures with questions; returns the exit code."""
    _share_cores()
    from vla.data.blocks.writing import write_dataset

    return write_dataset(config)


@_goes_on
def render_defects(config: RenderDefectsConfig) -> int:
    """Render pictures with defects; returns the exit code."""
    _share_cores()
    from vla.data.defects.writing import write_dataset

    return write_dataset(config)


@_goes_on
def download(config: DownloadConfig) -> int:
    """Fetch published image-text data; returns the exit code."""
    from vla.data.downloading.command import download

    return download(config)


def mix(config: MixConfig) -> int:
    """Put a mixture's annotation file together; returns the exit code."""
    from vla.data.downloading.mix import write_mix

    return write_mix(config)


@_goes_on
def watch_frames(config: WatchFramesConfig) -> int:
    """Collect frames of episodes in which nothing went wrong; returns the exit code."""
    _share_cores()
    from vla.serving.watching.frames import write_dataset

    return write_dataset(config)


def doctor(config: InspectConfig) -> int:
    """Examine demonstrations; returns the exit code."""
    from vla.data.inspection.command import inspect

    return inspect(config)


PROGRAM = Menu(
    DOC,
    {
        "record": Action(RecordConfig, record),
        "render-vqa": Action(RenderVQAConfig, render_vqa),
        "render-defects": Action(RenderDefectsConfig, render_defects),
        "watch-frames": Action(WatchFramesConfig, watch_frames),
        "download": Action(DownloadConfig, download),
        "mix": Action(MixConfig, mix),
        "doctor": Action(InspectConfig, doctor, positional="path", usage="PATH"),
    },
)
