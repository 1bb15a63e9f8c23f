"""A published checkpoint becomes a checkpoint folder that predicts the published numbers."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "models/anomaly"))
from test_published_checkpoint import CHECKPOINT, batch_of, narrow_config
from uniad_golden import ATOL, read_golden

from vla.conf import cli
from vla.conf.datasets import MVTecADConfig
from vla.conf.import_uniad import UniADCheckpointImport
from vla.conf.pretrain import PretrainConfig
from vla.errors import UserError
from vla.training.import_uniad import import_checkpoint
from vla.training.inference import load_for_inference


def test_import(tmp_path):
    config = narrow_config()
    cli.save(PretrainConfig(config, MVTecADConfig(root=tmp_path)), tmp_path / "run.yaml")
    arguments = UniADCheckpointImport(CHECKPOINT, tmp_path / "run.yaml", tmp_path / "out")
    assert import_checkpoint(arguments) == 0
    run, processor, model = load_for_inference(tmp_path / "out")
    assert run.model.published_checkpoint is None and processor.config == config.processor
    golden = read_golden("uniad_dev_full.safetensors")
    maps = model.predict(batch_of(golden.tensors["input.image"]))
    torch.testing.assert_close(maps[:, None], golden.tensors["output.pred"], rtol=0, atol=ATOL)


def test_a_checkpoint_of_other_sizes_is_refused(tmp_path):
    with pytest.raises(UserError, match="model.published_checkpoint: .* is of another net") as raised:
        import_checkpoint(UniADCheckpointImport(CHECKPOINT, None, tmp_path / "out"))
    assert "\n" not in str(raised.value) and not (tmp_path / "out").exists()
