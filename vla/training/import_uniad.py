"""UniAD's published checkpoints as checkpoint folders of this toolkit."""

from dataclasses import replace

from vla.conf import cli
from vla.conf.import_uniad import UniADCheckpointImport
from vla.conf.models.uniad import UniADConfig, UniADEfficientNetB4Config
from vla.conf.pretrain import PretrainConfig
from vla.data.anomaly.processor import AnomalyProcessor
from vla.errors import UserError
from vla.models.materialize import get_model
from vla.training.imported import write_imported


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
    write_imported(run, AnomalyProcessor(net.processor), model, config.output)
    print(f"{config.input} is written as {config.output}")
    return 0
