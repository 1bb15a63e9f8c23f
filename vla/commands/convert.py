"""`vla convert`: write and take over the layouts of published code bases (scripts/convert.py)."""

from vla.commands.program import Action, Menu
from vla.conf.convert import CardConfig, ExportConfig, ImportConfig, MergeConfig, PushConfig
from vla.conf.import_uniad import UniADCheckpointImport, UniADConfigImport

DOC = """Write checkpoints in the layouts that published code bases read, and take over what those have written.

    {program} export --checkpoint runs/my-run --output exported/my-run
    {program} export --checkpoint runs/my-run --output exported/my-run --precision bf16
    {program} import --input nanoVLM-222M --output runs/published-nanovlm
    {program} merge --base openvla-7b --adapter exported/my-run/lora_adapter --output merged
    {program} uniad-config --input UniAD/experiments/MVTec-AD/config.yaml --output mvtec.yaml
    {program} uniad-checkpoint --input ckpt.pth.tar --output runs/published-uniad
    {program} card --checkpoint runs/my-run --license mit
    {program} push --checkpoint runs/my-run --repo me/my-model --private
    {program} export --help

export: a model of the Prismatic family becomes a run folder of Prismatic's (config.json,
checkpoints/latest-checkpoint.pt), OpenVLA and OpenVLA-OFT a folder in their Hugging Face layout with
dataset_statistics.json, nanoVLM its folder (config.json, model.safetensors), the VGGT of a policy VGGT's
(model.safetensors), UniAD its ckpt.pth.tar.
import: Prismatic's, OpenVLA's and nanoVLM's layouts as a checkpoint folder, VGGT's file (model.pt) as checked
safetensors. Training and evaluation read them all as they are, too: --pretrained_checkpoint, --model.weights,
--model.vggt.weights.
merge: LoRA adapters in peft's layout, added to the Hugging Face folder that they were trained on, on the CPU.
uniad-config: a configuration of UniAD's for scripts/pretrain.py; what has no counterpart is an error.
uniad-checkpoint: a checkpoint of UniAD's as a checkpoint folder, for scripts/evaluate.py; nothing in it is executed.
card: README.md of a run for the Hugging Face hub: contract, data, measured results, versions.
push: a run's best checkpoint and its card to the hub; needs a token (hf auth login, or HF_TOKEN).
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


def import_published(config: ImportConfig) -> int:
    """Take over a published model; returns the exit code."""
    from vla.serving.importing import import_published

    return import_published(config)


def card(config: CardConfig) -> int:
    """Write a model card; returns the exit code."""
    from vla.serving.model_card import write_card

    return write_card(config)


def push(config: PushConfig) -> int:
    """Upload a checkpoint with its card; returns the exit code."""
    from vla.serving.publishing import push

    return push(config)


def merge(config: MergeConfig) -> int:
    """Add LoRA adapters to what they adapt; returns the exit code."""
    from vla.serving.export import merge

    return merge(config)


PROGRAM = Menu(
    DOC,
    {
        "export": Action(ExportConfig, export),
        "import": Action(ImportConfig, import_published),
        "merge": Action(MergeConfig, merge),
        "uniad-config": Action(UniADConfigImport, uniad_config),
        "uniad-checkpoint": Action(UniADCheckpointImport, uniad_checkpoint),
        "card": Action(CardConfig, card),
        "push": Action(PushConfig, push),
    },
)
