"""Where a stage's weights come from when it builds on another one."""

from dataclasses import replace
from pathlib import Path

from vla.conf import cli
from vla.conf.pretrain import PretrainConfig
from vla.conf.stage import Stage
from vla.errors import UserError
from vla.models.base import BaseModel
from vla.overwatch import initialize_overwatch
from vla.training.checkpoint import CONFIG, load_weights
from vla.training.checkpoint_store import CheckpointStore, find_checkpoint

overwatch = initialize_overwatch(__name__)

PUBLISHED_WEIGHTS = Path("checkpoints") / "latest-checkpoint.pt"  # in a run folder as Prismatic writes it


def start_from_previous_stage(config: PretrainConfig, resume_from: Path | None = None) -> PretrainConfig:
    """`config` with the `pretrained_checkpoint` that its stage has to begin with, if it names none and needs one.

    Args:
        config: the run's.
        resume_from: the checkpoint to resume; its run has begun with what its configuration says.

    Raises:
        UserError: there is no such run, or several; one line that says what to pass.
    """
    before = config.model.stage_before(config.stage)
    if before is None or config.pretrained_checkpoint is not None:
        return config
    if resume_from is not None:
        found = cli.load(PretrainConfig, resume_from / CONFIG).pretrained_checkpoint
    else:
        found = find_run(config, before)
        overwatch.info(f"stage {config.stage.value} begins with the weights of {found}")
    return replace(config, pretrained_checkpoint=found)


def find_run(config: PretrainConfig, stage: Stage) -> Path:
    """The run of `stage` of the same model and seed below `run_root_dir`.

    Taken is the run on the same dataset, else the only one on another; then a folder as Prismatic names them,
    `<model>+stage-<stage>+x<seed>`.

    Raises:
        UserError: there is none, or several on other datasets.
    """
    same = replace(config, stage=stage, run_id=None, pretrained_checkpoint=None).run_dir
    if CheckpointStore(same).newest() is not None:
        return same
    model, root = type(config.model).model_id, config.run_root_dir
    others = sorted(_runs(root, f"{model}+", f"+{stage.value}+x{config.seed}"))
    if len(others) == 1:
        return others[0]
    published = root / f"{model}+stage-{stage.value}+x{config.seed}"
    if not others and (published / PUBLISHED_WEIGHTS).is_file():
        return published
    problem = f"{root} holds {', '.join(run.name for run in others)}" if others else f"there is no {same}"
    raise UserError(
        f"pretrained_checkpoint: stage {config.stage.value} of {model} begins with the weights of its {stage.value} "
        f"stage, and {problem}; train that first (--stage {stage.value}) or pass --pretrained_checkpoint <run folder>"
    )


def _runs(root: Path, head: str, tail: str) -> list[Path]:
    """Run folders with a complete checkpoint whose names begin and end so."""
    if not root.is_dir():
        return []
    names = [path for path in root.iterdir() if path.name.startswith(head) and path.name.endswith(tail)]
    return [path for path in names if CheckpointStore(path).newest() is not None]


def find_pretrained(path: Path) -> Path:
    """The checkpoint that `pretrained_checkpoint` means: `path` itself if it is a run folder as Prismatic writes it,
    else the best or last checkpoint of a run, or the checkpoint itself, all of whose files have been read.

    Raises:
        UserError: there is no whole checkpoint.
    """
    from vla.models.weights.prismatic import is_prismatic_run

    return path if is_prismatic_run(path) else find_checkpoint(path, prefer="best")


def load_pretrained(model: BaseModel, source: Path) -> None:
    """Load the weights of the module groups that `source` holds, which `find_pretrained` has found.

    Raises:
        UserError: they don't fit; one line with a tensor's name.
    """
    from vla.models.weights.prismatic import find_prismatic_run, is_prismatic_run, load_prismatic

    if is_prismatic_run(source):
        source = find_prismatic_run(source).checkpoint
        groups = load_prismatic(model, source)
    else:
        groups = load_weights(model, source)
    overwatch.info(f"weights of {', '.join(groups)} from {source}")
