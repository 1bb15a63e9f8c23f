"""Loading weights: formats, tolerance for stored constants, and the report of what does not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vla.models.vggt import VGGT, VGGTSpec
from vla.models.vggt.weights import load_vggt
from vla.models.weights.files import read_state_dict

Weights = dict[str, Tensor]


def write(folder: Path, layout: str, weights: Weights) -> Path:
    """Write weights in one of the accepted layouts and return what to pass."""
    if layout == "folder":
        save_file(weights, folder / "model.safetensors")
        return folder
    if layout == "shards":
        names = sorted(weights)
        shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
        for name, keys in shards.items():
            save_file({key: weights[key] for key in keys}, folder / name)
        weight_map = {key: name for name, keys in shards.items() for key in keys}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
        return folder
    path = folder / f"weights.{layout.split('-')[0]}"
    if layout == "safetensors":
        save_file(weights, path)
    else:
        torch.save({"model": weights} if layout == "pt-wrapped" else weights, path)
    return path


@pytest.mark.parametrize("layout", ["safetensors", "pt", "pt-wrapped", "folder", "shards"])
def test_layouts(tmp_path: Path, dev_spec: VGGTSpec, dev_weights: Weights, layout: str) -> None:
    model = VGGT(dev_spec)
    report = load_vggt(model, write(tmp_path, layout, dev_weights))
    assert report.exact and report.loaded == len(dev_weights)
    assert all(torch.equal(value, dev_weights[key]) for key, value in model.state_dict().items())


def test_stored_constants_and_wrapper_prefix_are_tolerated(tmp_path, dev_spec, dev_weights) -> None:
    weights = {f"module.{key}": value for key, value in dev_weights.items()}
    weights["module.aggregator._resnet_mean"] = torch.zeros(1, 1, 3, 1, 1)
    weights["module.aggregator._resnet_std"] = torch.zeros(1, 1, 3, 1, 1)
    model = VGGT(dev_spec)
    assert load_vggt(model, write(tmp_path, "safetensors", weights)).exact
    assert model.aggregator._resnet_std.min() > 0.2


@pytest.fixture
def misfit(tmp_path: Path, dev_weights: Weights) -> Path:
    weights = dict(dev_weights)
    del weights["camera_head.token_norm.bias"]
    weights["aggregator.extra"] = torch.zeros(1)
    weights["depth_head.norm.weight"] = torch.zeros(3)
    return write(tmp_path, "safetensors", weights)


def test_misfits_are_refused_and_change_nothing(dev_spec: VGGTSpec, misfit: Path) -> None:
    model = VGGT(dev_spec)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError) as caught:
        load_vggt(model, misfit)
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "1 missing (camera_head.token_norm.bias)",
        "1 unexpected (aggregator.extra)",
        "1 mis-shaped (depth_head.norm.weight [64] != [3])",
    ):
        assert part in message
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_misfits_are_reported(dev_spec: VGGTSpec, dev_weights: Weights, misfit: Path) -> None:
    model = VGGT(dev_spec)
    report = load_vggt(model, misfit, strict=False)
    assert report.missing == ("camera_head.token_norm.bias",)
    assert report.unexpected == ("aggregator.extra",)
    assert report.mismatched == (("depth_head.norm.weight", (64,), (3,)),)
    assert report.loaded == len(dev_weights) - 2
    assert torch.equal(model.aggregator.camera_token, dev_weights["aggregator.camera_token"])


def test_heads_that_are_not_built_are_skipped(tmp_path, dev_spec, dev_weights) -> None:
    path = write(tmp_path, "safetensors", dev_weights)
    model = VGGT(replace(dev_spec, enable_depth=False, enable_point=False, enable_track=False))
    report = load_vggt(model, path)
    assert report.exact
    assert {key.split(".")[0] for key in report.skipped} == {"depth_head", "point_head", "track_head"}


def test_meta_model_takes_over_the_tensors(tmp_path, dev_spec, dev_weights, dev, assert_close) -> None:
    with torch.device("meta"):
        model = VGGT(dev_spec).eval()
    load_vggt(model, write(tmp_path, "safetensors", dev_weights))
    assert not any(x.is_meta for x in (*model.parameters(), *model.buffers()))
    assert not model.aggregator.patch_embed.mask_token.requires_grad
    assert model.aggregator.camera_token.requires_grad
    with torch.no_grad():
        assert_close(model.encode(dev["input2.images"])[0][3], dev["output2.tokens.3"], 1e-5)


def test_meta_model_is_never_left_half_filled(dev_spec: VGGTSpec, misfit: Path) -> None:
    with torch.device("meta"):
        model = VGGT(dev_spec)
    with pytest.raises(ValueError, match="do not fit"):
        load_vggt(model, misfit, strict=False)


def test_bad_paths(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no weights file"):
        read_state_dict(tmp_path / "absent.pt")
    with pytest.raises(FileNotFoundError, match="found none"):
        read_state_dict(tmp_path)
    (tmp_path / "weights.txt").write_text("x")
    with pytest.raises(ValueError, match="expected a .safetensors"):
        read_state_dict(tmp_path / "weights.txt")
    torch.save({"epoch": 3}, tmp_path / "odd.pt")
    with pytest.raises(ValueError, match="names to tensors"):
        read_state_dict(tmp_path / "odd.pt")


def test_index_cannot_point_outside_of_its_folder(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "../secret.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="plain file name"):
        read_state_dict(tmp_path)
