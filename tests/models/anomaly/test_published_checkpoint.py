"""Published checkpoints are read without running anything, and give the published numbers end to end."""

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from easydict import EasyDict
from uniad_golden import ATOL, GOLDEN, read_golden, reconstruction_config

from vla.batches import AnomalyBatch
from vla.conf.models.anomaly_parts import EfficientNetB4PartConfig, MFCNConfig
from vla.conf.models.uniad import AnomalyProcessorConfig, UniADConfig, UniADEfficientNetB4Config
from vla.errors import UserError
from vla.models.anomaly.published import read_published
from vla.models.materialize import WeightsNotFound, get_model

CHECKPOINT = GOLDEN / "uniad_dev_full_ckpt.pth.tar"


def narrow_config(checkpoint: Path = CHECKPOINT) -> UniADConfig:
    """The sizes of the golden checkpoint."""
    golden = read_golden("uniad_dev_full.safetensors")
    values = golden.config["reconstruction"]
    net = (
        EfficientNetB4PartConfig(width=golden.config["backbone"]["width_coefficient"]),
        MFCNConfig(outstrides=(16,)),
        reconstruction_config(values, [True, True, True]),
    )
    processor = AnomalyProcessorConfig(input_size=(160, 160))
    return UniADEfficientNetB4Config(processor=processor, net=net, published_checkpoint=str(checkpoint))


def batch_of(images: torch.Tensor) -> AnomalyBatch:
    count = len(images)
    return AnomalyBatch(
        torch.arange(count), images, torch.zeros(count, 160, 160, dtype=torch.bool), torch.zeros(count).long(),
        ["bottle"] * count, ["a.png"] * count, torch.ones(count, dtype=torch.bool), torch.arange(count),
    )  # fmt: skip


def test_end_to_end():
    golden = read_golden("uniad_dev_full.safetensors")
    model = get_model(narrow_config()).eval()
    with torch.no_grad():
        batch = batch_of(golden.tensors["input.image"])
        features = model.features_of(batch.images)
        rebuilt = model.reconstruction(features)
        output = model(batch)
    torch.testing.assert_close(features, golden.tensors["output.feature_align"], rtol=0, atol=ATOL)
    torch.testing.assert_close(rebuilt, golden.tensors["output.feature_rec"], rtol=0, atol=ATOL)
    torch.testing.assert_close(output.anomaly_maps[:, None], golden.tensors["output.pred"], rtol=0, atol=ATOL)
    expected = (golden.tensors["output.feature_rec"] - golden.tensors["output.feature_align"]).square().mean()
    torch.testing.assert_close(output.sample_loss.mean(), expected, rtol=0, atol=ATOL)
    torch.testing.assert_close(model.predict(batch), output.anomaly_maps)


@pytest.mark.parametrize("zipped", [False, True])
def test_both_formats_are_read(tmp_path, zipped):
    """EasyDict, a NumPy float and the prefix of DDP, in the format of old PyTorch and in today's."""
    content = {
        "epoch": 7, "arch": [EasyDict(name="backbone", kwargs={"outlayers": [1, 2]})], "best_metric": np.float64(0.97),
        "state_dict": {"module.reconstruction.x": torch.arange(3.0)},
        "optimizer": {"state": {0: {"step": 3, "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-4}]},
    }  # fmt: skip
    torch.save(content, tmp_path / "c.pth.tar", _use_new_zipfile_serialization=zipped)
    found = read_published(tmp_path / "c.pth.tar")
    assert found.epoch == 7 and found.best_metric == 0.97
    assert list(found.state) == ["reconstruction.x"] and found.state["reconstruction.x"].tolist() == [0, 1, 2]
    golden = read_published(CHECKPOINT)
    assert isinstance(golden.epoch, int) and isinstance(golden.best_metric, float)


class _Call:
    """A pickle that would call something when it is loaded."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("where", ["arch", "state_dict", "best_metric"])
@pytest.mark.parametrize("function", [os.system, eval, np.load, Path.mkdir])
def test_nothing_in_a_file_is_run(tmp_path, zipped, where, function):
    target = tmp_path / "made"
    arguments = {os.system: f"mkdir {target}", eval: f"__import__('os').mkdir({str(target)!r})"}
    content = {"state_dict": {}, where: _Call(function, arguments.get(function, target))}
    torch.save(content, tmp_path / "c.pth.tar", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match="can't be read") as raised:
        read_published(tmp_path / "c.pth.tar")
    assert "\n" not in str(raised.value) and not target.exists()


def test_scalars_of_objects_are_refused(tmp_path):
    """NumPy would unpickle such a scalar's bytes."""
    reduced = np.float64(1).__reduce__()[0], (np.dtype("O"), b"cos\nsystem\n")
    torch.save({"state_dict": {}, "best_metric": _Call(reduced[0], *reduced[1])}, tmp_path / "c.pth.tar")
    with pytest.raises(UserError, match="can't be read: a scalar of type O"):
        read_published(tmp_path / "c.pth.tar")


def test_a_file_of_something_else_is_one_line(tmp_path):
    (tmp_path / "c.pth.tar").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(UserError, match="can't be read") as raised:
        read_published(tmp_path / "c.pth.tar")
    assert "\n" not in str(raised.value)
    torch.save([1, 2], tmp_path / "list.pth.tar")
    with pytest.raises(UserError, match="holds no state_dict"):
        read_published(tmp_path / "list.pth.tar")


def test_a_checkpoint_of_another_net_is_refused_with_names():
    config = narrow_config()
    net = (*config.net[:2], replace(config.net[2], hidden_dim=16))
    with pytest.raises(UserError, match=r"is of another net: .*mis-shaped \(reconstruction\.") as raised:
        get_model(replace(config, net=net))
    assert "\n" not in str(raised.value)
    net = (*config.net[:2], replace(config.net[2], num_encoder_layers=3))
    with pytest.raises(UserError, match=r"missing \(reconstruction.transformer.encoder.layers.2"):
        get_model(replace(config, net=net))


def test_a_file_that_is_not_there_is_found_out_before_anything_is_built(tmp_path):
    with pytest.raises(WeightsNotFound, match="model.published_checkpoint: no such file"):
        get_model(narrow_config(tmp_path / "none.pth.tar"))
