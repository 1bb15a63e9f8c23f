"""Datasets: record demonstrations in the LIBERO simulator, render pictures with questions, fetch published ones.

    python scripts/data.py record --suite libero-object --demos_per_task 50 --workers 2
    python scripts/data.py record --suite libero-object --tasks 0,3 --demos_per_task 5 --output DIR
    python scripts/data.py record --suite libero-spatial --demos_per_task 10 --other_targets 10 --output DIR
    python scripts/data.py render-vqa --output data/vqa-rendered --images 4000 --workers 2
    python scripts/data.py render-defects --output data/defects --workers 2
    python scripts/data.py download --dataset llava-v15 --root data
    python scripts/data.py download --dataset llava-v15 --root data --part align
    python scripts/data.py mix --dataset llava-lvis4v --root data
    python scripts/data.py record --help

record: a scripted expert plays the tasks, and its successes are written as official LIBERO HDF5 files. The same command
goes on where it was interrupted; with a higher demos_per_task it goes on from finished files. Needs the libero extra.
render-vqa: pictures of blocks on a table with captions, and questions whose answers are true, in LLaVA's layout.
render-defects: surfaces and objects, faultless ones and ones with known defects, in MVTec-AD's layout.
download: LLaVA v1.5's captions, dialogues and images (--part align,coco,... for some of them; 100 GB in all), or
LVIS-Instruct-4V's dialogues. What is there is left alone, and a transfer that broke goes on where it broke.
mix: the annotation files of LLaVA without text-only rows, with LVIS-Instruct-4V, with LRV-Instruct, and with both.
"""

import os
import sys

from vla.conf import cli
from vla.conf.download import DownloadConfig, MixConfig
from vla.conf.record import RecordConfig
from vla.conf.render_defects import RenderDefectsConfig
from vla.conf.render_vqa import RenderVQAConfig


def record(config: RecordConfig) -> int:
    """Record demonstrations; returns the exit code."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the processes share the cores
    try:
        from vla.evaluation.simulator.record_suite import record  # imports h5py, which --help does without

        return record(config)
    except KeyboardInterrupt:
        return _interrupted()


def render_vqa(config: RenderVQAConfig) -> int:
    """Render pictures with questions; returns the exit code."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        from vla.data.blocks.writing import write_dataset

        return write_dataset(config)
    except KeyboardInterrupt:
        return _interrupted()


def download(config: DownloadConfig) -> int:
    """Fetch published image-text data; returns the exit code."""
    try:
        from vla.data.downloading.command import download

        return download(config)
    except KeyboardInterrupt:
        return _interrupted()


def mix(config: MixConfig) -> int:
    """Put a mixture's annotation file together; returns the exit code."""
    from vla.data.downloading.mix import write_mix

    return write_mix(config)


def render_defects(config: RenderDefectsConfig) -> int:
    """Render pictures with defects; returns the exit code."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        from vla.data.defects.writing import write_dataset

        return write_dataset(config)
    except KeyboardInterrupt:
        return _interrupted()


def _interrupted() -> int:
    print("interrupted; the same command goes on where it stopped", file=sys.stderr)
    return 130


COMMANDS = {
    "record": (RecordConfig, record),
    "render-vqa": (RenderVQAConfig, render_vqa),
    "render-defects": (RenderDefectsConfig, render_defects),
    "download": (DownloadConfig, download),
    "mix": (MixConfig, mix),
}


def main(words: list[str]) -> int:
    """Run the sub-command that the first word names; returns the exit code."""
    if not words or words[0] in ("-h", "--help"):
        print(f"usage: data.py {{{','.join(COMMANDS)}}} [--FIELD VALUE ...]\n\n{(__doc__ or '').strip()}")
        return 0
    if words[0] not in COMMANDS:
        print(f"error: command: must be one of {', '.join(COMMANDS)}, got {words[0]!r}", file=sys.stderr)
        return 2
    config_class, function = COMMANDS[words[0]]
    sys.argv[0] += f" {words[0]}"  # for the help's usage line
    return cli.run(config_class, function, words[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
