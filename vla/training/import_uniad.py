"""UniAD's published checkpoints as checkpoint folders of this toolkit."""

from dataclasses import replace

from vla.conf import cli
from vla.conf.import_uniad import UniADCheckpointImport
from vla.conf.models.uniad import UniADConfig, UniADEfficientNetB4Config
from vla.conf.pretrain import PretrainConfig
from vla.data.anomaly.processor import AnomalyProcessor
from vla.errors import UserError
from vla.models.materialize import get_model
from vla.training.checkpoint import CONFIG
from vla.training.checkpoint_files import CheckpointWriter


def import_checkpoint(config: UniADCheckpointImport) -> int:
    """Write what `config` says: weights of all module groups, configuration and Processor; no optimizer.

    Returns:
        Exit code 0.

    Raises:
        UserError: the checkpoint can't be read, or is of another net than the configuration's.
    """
    assert config.input is not None and config.output is not None
    run = PretrainConfig(UniADEfficientNetB4Config())
    if config.config is not None:
        run = cli.load(PretrainConfig, config.config)
    net = run.model
    if not isinstance(net, UniADConfig):
        raise UserError(f"config: model.type must be a UniAD, got {type(net).model_id!r}")
    model = get_model(replace(net, pretrained=True, published_checkpoint=str(config.input)))
    run = replace(run, model=replace(net, published_checkpoint=None))
    groups = {name: part.state_dict(prefix=f"{name}.") for name, part in model.module_groups().items()}
    with CheckpointWriter(config.output) as writer:
        for name, tensors in groups.items():
            writer.tensors(f"model/{name}.safetensors", tensors)
        writer.data(CONFIG, cli.dump(run).encode())
        writer.call(AnomalyProcessor(net.processor).save)
        writer.commit(
            {
                "global_step": 0,
                "epoch": 0.0,
                "world_size": 1,
                "model": type(net).model_id,
                "stage": run.stage.value,
                "groups": list(groups),
                "groups_as_published": [],
            }  # fmt: skip
        )
    print(f"{config.input} is written as {config.output}")
    return 0
