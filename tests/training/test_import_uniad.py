"""A published checkpoint becomes a checkpoint folder that predicts the published numbers."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "models/anomaly"))
from test_published_checkpoint import CHECKPOINT, batch_of, narrow_config
from uniad_golden import ATOL, read_golden

from vla.conf import cli
from vla.conf.convert import ExportConfig
from vla.conf.datasets import MVTecADConfig
from vla.conf.import_uniad import UniADCheckpointImport
from vla.conf.pretrain import PretrainConfig
from vla.errors import UserError
from vla.models.anomaly.published import read_published
from vla.serving.export import export
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


def test_what_is_exported_is_what_was_imported(tmp_path):
    """Tensor by tensor, up to the backbone's end, which nothing uses; and it is imported again."""
    cli.save(PretrainConfig(narrow_config(), MVTecADConfig(root=tmp_path)), tmp_path / "run.yaml")
    import_checkpoint(UniADCheckpointImport(CHECKPOINT, tmp_path / "run.yaml", tmp_path / "out"))
    assert export(ExportConfig(checkpoint=tmp_path / "out", output=tmp_path / "published")) == 0
    path = tmp_path / "published" / "ckpt.pth.tar"
    before, after = read_published(CHECKPOINT).state, read_published(path).state
    assert after.keys() <= before.keys() and all(torch.equal(after[name], before[name]) for name in after)
    used = [name for name in before if not name.startswith("backbone.")]
    assert used and {*used} <= after.keys() and "backbone._conv_stem.weight" in after
    import_checkpoint(UniADCheckpointImport(path, tmp_path / "run.yaml", tmp_path / "again"))
    image = read_golden("uniad_dev_full.safetensors").tensors["input.image"]
    maps = [load_for_inference(tmp_path / name)[2].predict(batch_of(image)) for name in ("out", "again")]
    assert torch.equal(*maps)
    for values, message in (({"precision": "bf16"}, "precision: UniAD's checkpoints are in fp32"),
                            ({"groups": ("neck",)}, "groups: UniAD's layout holds whole models")):  # fmt: skip
        with pytest.raises(UserError, match=message):
            export(ExportConfig(checkpoint=tmp_path / "out", output=tmp_path / "published", **values))


def test_a_checkpoint_of_other_sizes_is_refused(tmp_path):
    with pytest.raises(UserError, match="model.published_checkpoint: .* is of another net") as raised:
        import_checkpoint(UniADCheckpointImport(CHECKPOINT, None, tmp_path / "out"))
    assert "\n" not in str(raised.value) and not (tmp_path / "out").exists()
