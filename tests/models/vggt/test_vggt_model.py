"""What the model promises beyond numbers: names, computing only what is asked, memory switches, construction."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_vggt import TINY_SPEC
from torch import Tensor, nn

from vla.models.vggt import VGGT, VGGTSpec, vggt_1b


@pytest.fixture
def images() -> Tensor:
    return torch.rand(1, 2, 3, 28, 42, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def listing(golden_dir: Path) -> dict:
    return json.loads((golden_dir / "vggt_1b_state_dict.json").read_text())


@pytest.fixture(scope="module")
def full() -> VGGT:
    with torch.device("meta"):
        return VGGT()


def count_calls(modules: dict[str, nn.Module]) -> dict[str, int]:
    calls = dict.fromkeys(modules, 0)

    def counter(name: str):
        def hook(module: nn.Module, args: tuple) -> None:
            calls[name] += 1

        return hook

    for name, module in modules.items():
        module.register_forward_pre_hook(counter(name))
    return calls


def test_published_names_and_shapes(listing: dict, full: VGGT) -> None:
    shapes = {key: list(value.shape) for key, value in full.state_dict().items()}
    assert shapes == listing["state_dict"]
    assert all(value.dtype == torch.float32 for value in full.state_dict().values())


def test_published_parameter_counts(listing: dict, full: VGGT) -> None:
    assert sum(p.numel() for p in full.parameters()) == listing["total_params"]
    for part, expected in listing["params_by_part"].items():
        owner = full.get_submodule(part) if "token" not in part else None
        found = sum(p.numel() for p in owner.parameters()) if owner is not None else full.get_parameter(part).numel()
        assert found == expected, part


def test_only_the_mask_token_is_frozen(full: VGGT) -> None:
    frozen = [name for name, parameter in full.named_parameters() if not parameter.requires_grad]
    assert frozen == ["aggregator.patch_embed.mask_token"]


def test_disabled_heads_have_no_keys() -> None:
    spec = replace(vggt_1b(), enable_camera=False, enable_depth=False, enable_point=False, enable_track=False)
    with torch.device("meta"):
        model = VGGT(spec)
    assert {key.split(".")[0] for key in model.state_dict()} == {"aggregator"}


@pytest.mark.parametrize("name", ["camera", "depth", "points", "track"])
@torch.no_grad()
def test_only_the_asked_head_runs(model: VGGT, images: Tensor, name: str) -> None:
    heads = {"camera": model.camera_head, "depth": model.depth_head, "points": model.point_head}
    heads["track"] = model.track_head
    calls = count_calls(heads)
    query = torch.tensor([[[3.0, 4.0]]]) if name == "track" else None
    model(images, query_points=query, outputs=(name,))
    assert calls == {head: int(head == name) for head in heads}


@torch.no_grad()
def test_encode_runs_no_head_and_no_later_block(model: VGGT, images: Tensor) -> None:
    heads = {"camera": model.camera_head, "depth": model.depth_head, "points": model.point_head}
    blocks = {str(i): block for i, block in enumerate(model.aggregator.global_blocks)}
    calls = count_calls({**heads, **blocks})
    tokens, _, pose = model.encode(images, layers=(1,))
    assert set(tokens) == {1} and pose is None
    assert calls == {"camera": 0, "depth": 0, "points": 0, "0": 1, "1": 1, "2": 0, "3": 0}


@torch.no_grad()
def test_unnamed_layers_are_not_built(model: VGGT, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    widths: list[torch.Size] = []
    concatenate = torch.cat

    def watch(tensors, dim=0):
        result = concatenate(tensors, dim=dim)
        if dim == -1:
            widths.append(result.shape)
        return result

    monkeypatch.setattr("vla.models.vggt.aggregator.torch.cat", watch)
    model.encode(images, layers=(-1,), camera=False)
    assert widths == [torch.Size([1, 2, 5 + 6, 64])]
    widths.clear()
    model.aggregator(images, (), camera_tokens=True)
    assert widths == [torch.Size([1, 2, 64])]


@torch.no_grad()
def test_rope_tables_are_shared_by_layers_and_calls(model: VGGT, images: Tensor) -> None:
    model.encode(images)
    tables = dict(model.aggregator.rope._cache)
    model.encode(images)
    assert len(tables) == 2
    assert all(model.aggregator.rope._cache[key][0] is table[0] for key, table in tables.items())


def test_tables_made_for_inference_serve_training(model: VGGT, images: Tensor) -> None:
    with torch.inference_mode():
        model(images)
    sum(x.sum() for x in model(images, outputs=("camera", "depth")).values()).backward()
    assert model.aggregator.camera_token.grad is not None


def test_first_frame_is_the_only_one_with_its_own_tokens(model: VGGT, images: Tensor) -> None:
    one = images[:, :1].expand(-1, 3, -1, -1, -1)
    with torch.no_grad():
        tokens = model.encode(one)[0][3]
    assert not torch.allclose(tokens[:, 0], tokens[:, 1], atol=1e-3)
    torch.testing.assert_close(tokens[:, 1], tokens[:, 2], atol=1e-5, rtol=0)


@pytest.mark.parametrize("outputs", [("camera",), ("camera", "depth", "points")])
def test_gradient_checkpointing_changes_no_gradient(model: VGGT, images: Tensor, outputs: tuple[str, ...]) -> None:
    def gradients(checkpointing: bool, training: bool) -> dict[str, Tensor]:
        model.train(training)
        model.set_gradient_checkpointing(checkpointing)
        model.zero_grad()
        blocks = {"block": model.aggregator.frame_blocks[0]}
        calls = count_calls(blocks)
        sum(x.square().mean() for x in model(images, outputs=outputs).values()).backward()
        assert calls["block"] == 1 + checkpointing  # once more in the backward pass, whatever the mode
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    plain = gradients(False, True)
    assert plain
    for training in (True, False):
        again = gradients(True, training)
        assert again.keys() == plain.keys()
        for name, gradient in plain.items():
            torch.testing.assert_close(again[name], gradient, atol=1e-6, rtol=1e-5)


def test_meta_construction_then_init_equals_direct_construction(images: Tensor) -> None:
    torch.manual_seed(3)
    direct = VGGT(TINY_SPEC).eval()
    with torch.device("meta"):
        late = VGGT(TINY_SPEC).eval()
    assert all(x.is_meta for x in (*late.parameters(), *late.buffers()))
    late.to_empty(device="cpu")
    torch.manual_seed(3)
    late.init_weights()
    for (name, a), (_, b) in zip(direct.state_dict().items(), late.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    for (name, a), (_, b) in zip(direct.named_buffers(), late.named_buffers(), strict=True):
        assert torch.equal(a, b), name
    with torch.no_grad():
        assert torch.equal(direct(images)["depth"], late(images)["depth"])


def test_fresh_weights_are_sane(images: Tensor, dev_spec: VGGTSpec) -> None:
    model = VGGT(dev_spec)
    assert all(p.isfinite().all() for p in model.parameters())
    assert model.aggregator.frame_blocks[0].ls1.gamma.eq(0.01).all()
    assert model.aggregator.patch_embed.blocks[0].ls1.gamma.eq(1.0).all()
    assert model.camera_head.empty_pose_tokens.eq(0).all()
    with torch.no_grad():
        out = model(images, query_points=torch.tensor([[[3.0, 4.0]]]))
    assert all(x.isfinite().all() for x in out.values())


def test_meta_forward_gives_shapes_of_the_full_model(full: VGGT) -> None:
    with torch.no_grad():
        tokens, start, pose = full.encode(torch.empty(1, 2, 3, 224, 224, device="meta"), (-1,), camera=True)
    assert tokens[23].shape == (1, 2, 5 + 256, 2048)
    assert start == 5 and pose.shape == (1, 2, 9)


def test_fsdp_units_are_all_blocks(full: VGGT, conv_spec: VGGTSpec) -> None:
    units = full.fsdp_units()
    assert len(units) == 24 + 2 * 24 + 4
    assert len(set(map(id, units))) == len(units)
    assert units[24] is full.aggregator.frame_blocks[0] and units[25] is full.aggregator.global_blocks[0]
    assert len(VGGT(conv_spec).fsdp_units()) == 4


@torch.no_grad()
def test_bfloat16_autocast_and_weights(model: VGGT, images: Tensor) -> None:
    exact = model(images, query_points=torch.tensor([[[3.0, 4.0]]]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model(images, query_points=torch.tensor([[[3.0, 4.0]]]))
    assert mixed["depth"].dtype == mixed["pose_enc"].dtype == torch.float32
    torch.testing.assert_close(mixed["depth"], exact["depth"], atol=0.1, rtol=0.1)
    half = copy.deepcopy(model).to(torch.bfloat16)(images, query_points=torch.tensor([[[3.0, 4.0]]]))
    assert half["depth"].dtype == torch.bfloat16
    torch.testing.assert_close(half["depth"].float(), exact["depth"], atol=0.2, rtol=0.2)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"patch_embed": "dinov2_vitx"}, "patch_embed"),
        ({"embed_dim": 768}, "embed_dim"),
        ({"img_size": 500}, "img_size"),
        ({"num_heads": 7}, "num_heads"),
        ({"dpt_layers": (4, 11, 17, 24)}, "dpt_layers"),
        ({"camera_num_heads": 3}, "camera_num_heads"),
        ({"depth": 0}, "depth"),
        ({"dpt_out_channels": (255, 512, 1024, 1024)}, "dpt_out_channels"),
        ({"track_num_heads": 5}, "track_num_heads"),
    ],
)
def test_spec_names_the_field_that_does_not_fit(change: dict, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        VGGTSpec(**change)


@pytest.mark.parametrize("name", ["dinov2_vits14_reg", "dinov2_vitb14_reg", "dinov2_vitg2_reg"])
def test_other_encoders_build(name: str) -> None:
    width, heads = {"s": (384, 6), "b": (768, 12), "g": (1536, 24)}[name[10]]
    with torch.device("meta"):
        model = VGGT(VGGTSpec(patch_embed=name, embed_dim=width, num_heads=heads))
    assert len(model.aggregator.patch_embed.blocks) == (40 if name[10] == "g" else 12)


def test_bad_requests_are_refused(images: Tensor) -> None:
    model = VGGT(TINY_SPEC)
    with pytest.raises(ValueError, match="unknown output 'pose'"):
        model(images, outputs=("pose",))
    with pytest.raises(ValueError, match="without its head"):
        model(images, query_points=torch.zeros(1, 1, 2))
    with pytest.raises(ValueError, match="layer 4 does not exist"):
        model.encode(images, layers=(4,))
    with pytest.raises(ValueError, match="multiples of 14"):
        model(images[..., :-1])
    with pytest.raises(ValueError, match=r"\[B, S, 3, H, W\]"):
        model.encode(images[0])
    with pytest.raises(ValueError, match="floating point"):
        model((images * 255).byte())
    with pytest.raises(ValueError, match="query_points"):
        VGGT(replace(TINY_SPEC, enable_track=True, track_hidden_size=32))(images, outputs=("track",))
