"""`vla convert`: write and take over the layouts of published code bases (scripts/convert.py)."""

from vla.commands.program import Action, Menu
from vla.conf.convert import ExportConfig, MergeConfig
from vla.conf.import_uniad import UniADCheckpointImport, UniADConfigImport

DOC = """Write checkpoints in the layouts that published code bases read, and take over what those have written.

    {program} export --checkpoint runs/my-run --output exported/my-run
    {program} export --checkpoint runs/my-run --output exported/my-run --precision bf16
    {program} merge --base openvla-7b --adapter exported/my-run/lora_adapter --output merged
    {program} uniad-config --input UniAD/experiments/MVTec-AD/config.yaml --output mvtec.yaml
    {program} uniad-checkpoint --input ckpt.pth.tar --output runs/published-uniad
    {program} export --help

A model of the Prismatic family becomes a run folder of Prismatic's (config.json, checkpoints/latest-checkpoint.pt),
OpenVLA and OpenVLA-OFT a folder in their Hugging Face layout, with dataset_statistics.json.
Published layouts need no conversion to be read: give them to vla.load or --pretrained_checkpoint as they are.

merge: LoRA adapters in peft's layout, added to the Hugging Face folder that they were trained on, on the CPU.
uniad-config: a configuration of UniAD's for scripts/pretrain.py; what has no counterpart is an error.
uniad-checkpoint: a checkpoint of UniAD's as a checkpoint folder, for scripts/evaluate.py; nothing in it is executed.
"""


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


PROGRAM = Menu(
    DOC,
    {
        "export": Action(ExportConfig, export),
        "merge": Action(MergeConfig, merge),
        "uniad-config": Action(UniADConfigImport, uniad_config),
        "uniad-checkpoint": Action(UniADCheckpointImport, uniad_checkpoint),
    },
)
