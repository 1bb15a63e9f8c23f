"""Write checkpoints in the layouts that published code bases read, and take over what those have written.

    python scripts/convert.py export --checkpoint runs/my-run --output exported/my-run
    python scripts/convert.py export --checkpoint runs/my-run --output exported/my-run --precision bf16
    python scripts/convert.py merge --base openvla-7b --adapter exported/my-run/lora_adapter --output merged
    python scripts/convert.py uniad-config --input UniAD/experiments/MVTec-AD/config.yaml --output mvtec.yaml
    python scripts/convert.py uniad-checkpoint --input ckpt.pth.tar --output runs/published-uniad
    python scripts/convert.py export --help

A model of the Prismatic family becomes a run folder of Prismatic's (config.json, checkpoints/latest-checkpoint.pt),
OpenVLA and OpenVLA-OFT a folder in their Hugging Face layout, with dataset_statistics.json.
Published layouts need no conversion to be read: give them to vla.load or --pretrained_checkpoint as they are.

merge: LoRA adapters in peft's layout, added to the Hugging Face folder that they were trained on, on the CPU.
uniad-config: a configuration of UniAD's for scripts/pretrain.py; what has no counterpart is an error.
uniad-checkpoint: a checkpoint of UniAD's as a checkpoint folder, for scripts/evaluate.py; nothing in it is executed.
"""

import sys
from collections.abc import Callable
from typing import Any

from vla.conf import cli
from vla.conf.convert import ExportConfig, MergeConfig
from vla.conf.import_uniad import UniADCheckpointImport, UniADConfigImport


def export(config: ExportConfig) -> int:
    """Write a checkpoint for another code base; returns the exit code."""
    from vla.serving.export import export  # imports torch, which --help and configuration errors do without

    return export(config)


def uniad_config(config: UniADConfigImport) -> int:
    """Take over a configuration of UniAD's; returns the exit code."""
    from vla.conf.published_uniad import write_config

    return write_config(config)


def uniad_checkpoint(config: UniADCheckpointImport) -> int:
    """Take over a checkpoint of UniAD's; returns the exit code."""
    from vla.training.import_uniad import import_checkpoint

    return import_checkpoint(config)


def merge(config: MergeConfig) -> int:
    """Add LoRA adapters to what they adapt; returns the exit code."""
    from vla.serving.export import merge

    return merge(config)


COMMANDS: dict[str, tuple[type, Callable[[Any], int]]] = {
    "merge": (MergeConfig, merge),
    "export": (ExportConfig, export),
    "uniad-config": (UniADConfigImport, uniad_config),
    "uniad-checkpoint": (UniADCheckpointImport, uniad_checkpoint),
}


def main(words: list[str]) -> int:
    """Run the sub-command that the first word names; returns the exit code."""
    if not words or words[0] in ("-h", "--help"):
        print(f"usage: convert.py {{{','.join(COMMANDS)}}} [--FIELD VALUE ...]\n\n{(__doc__ or '').strip()}")
        return 0
    if words[0] not in COMMANDS:
        print(f"error: command: must be one of {', '.join(COMMANDS)}, got {words[0]!r}", file=sys.stderr)
        return 2
    config_class, function = COMMANDS[words[0]]
    return cli.run(config_class, function, words[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
