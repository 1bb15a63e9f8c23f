"""The model against the recorded outputs of the published implementation, on the same weights and inputs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vla.models.vggt import VGGT, VGGTSpec
from vla.models.vggt.camera_head import activate_pose
from vla.models.vggt.dpt_head import DPTHead
from vla.models.vggt.geometry import unproject_depth
from vla.models.vggt.pose_encoding import decode_pose, encode_pose
from vla.models.vggt.rope import apply_rope, rope_table

TOKENS, MAPS = 1e-5, 2e-5
Golden = dict[str, Tensor]
CASES = ["", "2"]


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_whole_model(model: VGGT, dev: Golden, assert_close, case: str) -> None:
    out = model(dev[f"input{case}.images"], layers=range(4))
    expected = {key.removeprefix(f"output{case}."): x for key, x in dev.items() if key.startswith(f"output{case}.")}
    for layer in range(4):
        assert_close(out["tokens"][layer], expected[f"tokens.{layer}"], TOKENS)
    for name in ("pose_enc", "pose_enc_list"):
        assert_close(out[name], expected[name], TOKENS)
    for name in ("depth", "depth_conf", "world_points", "world_points_conf"):
        assert_close(out[name], expected[name], MAPS)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_encode_gives_the_same_tokens_and_pose(model: VGGT, dev: Golden, assert_close, case: str) -> None:
    tokens, patch_start, pose = model.encode(dev[f"input{case}.images"], layers=(1, -1), camera=True)
    assert list(tokens) == [1, 3]
    assert patch_start == dev[f"output{case}.patch_start_idx"].item()
    for layer, value in tokens.items():
        assert_close(value, dev[f"output{case}.tokens.{layer}"], TOKENS)
    assert_close(pose, dev[f"output{case}.pose_enc"], TOKENS)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_conv_patch_embedding(conv_spec: VGGTSpec, dev_conv: Golden, assert_close, case: str) -> None:
    model = VGGT(conv_spec).eval()
    weights = {key.removeprefix("state_dict."): x for key, x in dev_conv.items() if key.startswith("state_dict.")}
    model.load_state_dict(weights, strict=True)
    tokens, patch_start, pose = model.encode(dev_conv[f"input{case}.images"], layers=(0, 1))
    assert patch_start == dev_conv[f"output{case}.patch_start_idx"].item()
    assert pose is None
    for layer in (0, 1):
        assert_close(tokens[layer], dev_conv[f"output{case}.tokens.{layer}"], TOKENS)


@torch.no_grad()
def test_inside_the_model(model: VGGT, dev: Golden, assert_close) -> None:
    """Intermediate results, so that a failure says which part is wrong."""
    seen: dict[str, Tensor] = {}

    def keep(name: str):
        return lambda module, args, output: seen.__setitem__(name, output)

    depth_head: DPTHead = model.depth_head
    watched = {
        "patch_tokens": model.aggregator.patch_embed,
        "depth_refinenet4": depth_head.scratch.refinenet4,
        "depth_output_conv1": depth_head.scratch.output_conv1,
        "depth_raw": depth_head.scratch.output_conv2,
        "point_raw": model.point_head.scratch.output_conv2,
    }
    for name, module in watched.items():
        module.register_forward_hook(keep(name))
    model(dev["input.images"], outputs=("depth", "points"))
    for name in watched:
        assert_close(seen[name], dev[f"output.dbg.{name}"], MAPS)


@torch.no_grad()
def test_dense_heads_do_not_depend_on_the_chunk_size(model: VGGT, dev: Golden, assert_close) -> None:
    model.depth_head.frames_chunk = 4
    out = model(dev["input.images"], outputs=("depth",))
    assert_close(out["depth"], dev["output.depth"], MAPS)


@torch.no_grad()
def test_camera_head_feeds_back_the_raw_estimate(model: VGGT, dev: Golden, assert_close) -> None:
    estimates = model.camera_head(dev["unit.camera_tokens"][:, :, 0])
    assert_close(estimates, dev["unit.camera_pose_enc_list"], TOKENS)


def test_pose_activation(dev: Golden, assert_close) -> None:
    assert_close(activate_pose(dev["unit.pose_raw"]), dev["unit.pose_act"], 0.0)


def test_rope(dev: Golden, assert_close) -> None:
    cos, sin = rope_table(dev["unit.rope_pos"], head_dim=24)
    rotated = apply_rope(dev["unit.rope_in"], (cos.unsqueeze(1), sin.unsqueeze(1)))
    assert_close(rotated, dev["unit.rope_out"], TOKENS)


def test_pose_encoding(dev: Golden, assert_close) -> None:
    image_size = (30, 44)
    extrinsics, intrinsics = decode_pose(dev["unit.enc"], image_size)
    assert_close(extrinsics, dev["unit.enc_extrinsic"], MAPS)
    assert_close(intrinsics, dev["unit.enc_intrinsic"], MAPS)
    assert_close(encode_pose(extrinsics, intrinsics, image_size), dev["unit.enc_roundtrip"], MAPS)


@pytest.mark.parametrize("case", CASES)
def test_cameras_and_unprojection(dev: Golden, assert_close, case: str) -> None:
    image_size = tuple(dev[f"input{case}.images"].shape[-2:])
    extrinsics, intrinsics = decode_pose(dev[f"output{case}.pose_enc"], image_size)
    assert_close(extrinsics, dev[f"output{case}.extrinsic"], MAPS)
    assert_close(intrinsics, dev[f"output{case}.intrinsic"], MAPS)
    points, valid = unproject_depth(dev[f"output{case}.depth"], extrinsics, intrinsics)
    assert_close(points, dev[f"output{case}.unprojected_points"], MAPS)
    assert valid.all()
