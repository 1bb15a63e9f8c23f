"""AtlasVLA: options, the published interface, and that what frozen backbones give is computed once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from vla.batches import ActionBatch
from vla.conf.models.atlas import AtlasVLAConfig
from vla.conf.models.components import ChunkHeadConfig, FlowHeadConfig, LLMConfig
from vla.errors import UserError
from vla.models.freezing import apply_stage
from vla.models.materialize import get_model
from vla.models.vlas.atlas import AtlasVLA

MakeBatch = Callable[..., ActionBatch]
BACKBONES = ("vision_backbone", "llm_backbone")


def _change(config: AtlasVLAConfig, **parts: dict) -> AtlasVLAConfig:
    return replace(config, **{name: replace(getattr(config, name), **fields) for name, fields in parts.items()})


@contextmanager
def _count_calls(module: nn.Module) -> Iterator[list[tuple[int, ...]]]:
    """Shapes of the first argument of every call of a module."""
    calls: list[tuple[int, ...]] = []

    def note(_module: nn.Module, args: tuple, kwargs: dict) -> None:
        calls.append(tuple((args[0] if args else kwargs["input_ids"]).shape))

    handle = module.register_forward_pre_hook(note, with_kwargs=True)
    yield calls
    handle.remove()


OPTIONS: dict[str, dict] = {
    "default": {},
    "bidirectional": {"fusion": {"direction": "bidirectional"}},
    "frame tokens": {"geometry_encoder": {"tokens": "frame"}},
    "pooled": {"geometry_encoder": {"pool_size": 2, "use_pose": False}},
    "points": {"geometry_encoder": {"use_pointnet": True, "num_points": 64}, "vggt": {"embed_dim": 64}},
    "history": {"processor": {"num_frames": 2}, "geometry_encoder": {"temporal_layers": 1}},
    "no proprio": {"processor": {"proprio": False}},
    "dinov2": {"vggt": {"patch_embed": "dinov2_vits14_reg", "patch_embed_depth": 1, "patch_embed_heads": 2}},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name: str, tiny_config: AtlasVLAConfig, make_batch: MakeBatch) -> None:
    config = _change(tiny_config, **OPTIONS[name])
    model, batch = AtlasVLA(config), make_batch(config)
    output = model(batch)
    assert output.step_loss.shape == (4, 1) and output.step_loss.dtype == torch.float32
    assert set(output.step_logs) == {"pose_loss", "gripper_loss", "action_l1"}
    output.step_loss.mean().backward()
    without = {key for key, parameter in model.named_parameters() if parameter.grad is None}
    assert without == model.unused_parameters()


@pytest.mark.parametrize("head", [ChunkHeadConfig(chunk_size=3), FlowHeadConfig(chunk_size=3, hidden_dim=32)], ids=repr)
@pytest.mark.parametrize("direction", ["cross", "bidirectional"])
def test_heads(head: ChunkHeadConfig, direction: str, tiny_config: AtlasVLAConfig, make_batch: MakeBatch) -> None:
    config = _change(replace(tiny_config, action_head=head), fusion={"direction": direction})
    model, batch = AtlasVLA(config).eval(), make_batch(config)
    output = model(batch)
    assert output.step_loss.shape == (4, 3)
    output.step_loss.mean().backward()
    assert {key for key, p in model.named_parameters() if p.grad is None} == model.unused_parameters()
    predicted = model.predict(batch)
    assert predicted.shape == (4, 3, 7) and not predicted.requires_grad
    assert torch.equal(predicted, model.predict(batch))  # the seeds in the batch decide


def test_published_interface(tiny_model: AtlasVLA, make_batch: MakeBatch) -> None:
    model, batch = tiny_model.eval(), make_batch(tiny_model.config)
    result = model(batch.images, batch.instructions, proprio=batch.proprio)
    assert result["pose"].shape == (4, 6) and result["gripper"].shape == (4, 1)
    assert 0 <= result["gripper"].min() and result["gripper"].max() <= 1
    torch.testing.assert_close(result["actions"], model.predict(batch))
    torch.testing.assert_close(result["actions"][:, 0, 6:], 2 * result["gripper"] - 1)
    result["pose"].sum().backward()
    with pytest.raises(ValueError, match="instructions: must be 4, one per sample, got 1"):
        model(batch.images, ["open"])


def test_wrong_inputs(tiny_model: AtlasVLA, make_batch: MakeBatch) -> None:
    batch = make_batch(tiny_model.config)
    with pytest.raises(ValueError, match="proprio"):
        tiny_model(replace(batch, proprio=None))
    with pytest.raises(ValueError, match="1 frames x 2 cameras"):
        tiny_model(replace(batch, images=batch.images[:, :1]))
    with pytest.raises(ValueError, match="floating point"):
        tiny_model(replace(batch, images=batch.images.to(torch.uint8)))


def test_distinct_instructions_are_encoded_once(tiny_model: AtlasVLA, make_batch: MakeBatch) -> None:
    batch = make_batch(tiny_model.config, 5)  # the first and the fourth instruction are the same
    with _count_calls(tiny_model.llm_backbone.model) as calls:
        together = tiny_model(batch).step_loss
    assert [shape[0] for shape in calls] == [4]
    alone = tiny_model(replace(batch, instructions=[f"{text}" for text in batch.instructions])).step_loss
    assert torch.equal(together, alone)


def test_dense_heads_are_built_only_if_asked_for(tiny_config: AtlasVLAConfig) -> None:
    def heads(**fields: object) -> set[str]:
        vggt = AtlasVLA(_change(tiny_config, geometry_encoder=fields)).vision_backbone
        return {name for name, module in vggt.named_children() if name.endswith("_head") and module is not None}

    assert heads() == {"camera_head"}
    assert heads(use_pose=False) == set()
    assert heads(use_pose=False, use_pointnet=True) == {"point_head"}


@pytest.mark.parametrize("name", ["default", "frame tokens", "pooled", "points", "history"])
def test_kept_features_equal_computed_ones(name: str, tiny_config: AtlasVLAConfig, make_batch: MakeBatch) -> None:
    config = _change(tiny_config, **OPTIONS[name])
    model = AtlasVLA(config)
    apply_stage(model, config.align)
    batch = make_batch(config)
    sources = model.feature_sources()
    features: dict[str, torch.Tensor] = {}
    for source in sources.values():  # a sample at a time, in reverse: neither may matter
        parts = []
        for index in reversed(range(len(batch))):
            one = replace(
                batch.map_tensors(lambda tensor, at=index: tensor[at : at + 1]),
                instructions=[batch.instructions[index]],
            )
            parts.insert(0, source.compute(one))
        features |= {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    assert not any(value.requires_grad for value in features.values())
    with _count_calls(model.llm_backbone.model) as words, _count_calls(model.vision_backbone.aggregator) as images:
        computed = model(batch)
    assert words and images
    with _count_calls(model.llm_backbone.model) as words, _count_calls(model.vision_backbone.aggregator) as images:
        kept = model(replace(batch, features=features))
    assert not words and not images
    assert torch.equal(computed.step_loss, kept.step_loss)


def test_frozen_backbones_give_what_trainable_ones_give(tiny_model: AtlasVLA, make_batch: MakeBatch) -> None:
    batch = make_batch(tiny_model.config)
    trainable = tiny_model(batch).step_loss
    apply_stage(tiny_model, tiny_model.config.align)
    torch.testing.assert_close(tiny_model(batch).step_loss, trainable)


def test_feature_keys(tiny_model: AtlasVLA, make_batch: MakeBatch) -> None:
    batch, sources = make_batch(tiny_model.config), tiny_model.feature_sources()
    assert sources["vision_backbone"].keys(batch) == [10, 11, 12, 13]
    assert sources["llm_backbone"].keys(batch) == batch.instructions


def test_gradient_checkpointing_gives_the_same_gradients(tiny_model: AtlasVLA, make_batch: MakeBatch) -> None:
    batch, gradients = make_batch(tiny_model.config), []
    for enabled in (False, True):
        tiny_model.set_gradient_checkpointing(enabled)
        tiny_model.zero_grad()
        tiny_model(batch).step_loss.mean().backward()
        gradients.append({key: parameter.grad for key, parameter in tiny_model.named_parameters()})
    for key, plain in gradients[0].items():
        torch.testing.assert_close(plain, gradients[1][key])


def test_bf16_autocast(tiny_model: AtlasVLA, make_batch: MakeBatch) -> None:
    batch = make_batch(tiny_model.config)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = tiny_model(batch).step_loss
    assert loss.dtype == torch.float32
    loss.mean().backward()


def test_it_learns(tiny_config: AtlasVLAConfig, make_batch: MakeBatch) -> None:
    model, batch = AtlasVLA(tiny_config), make_batch(tiny_config)
    apply_stage(model, tiny_config.align)
    batch = replace(
        batch, features={k: v for s in model.feature_sources().values() for k, v in s.compute(batch).items()}
    )
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=3e-3)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = model(batch).step_loss.mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_pretrained_weights_from_local_files(
    tiny_config: AtlasVLAConfig, tmp_path: Path, make_batch: MakeBatch
) -> None:
    from safetensors.torch import save_file
    from transformers import LlamaForCausalLM

    source = get_model(tiny_config, seed=1)
    save_file(source.vision_backbone.state_dict(), tmp_path / "vggt.safetensors")
    causal = LlamaForCausalLM(source.llm_backbone.model.config)
    causal.model.load_state_dict(source.llm_backbone.model.state_dict())
    causal.save_pretrained(tmp_path / "llm")
    source.tokenizer.save_pretrained(tmp_path / "llm")
    config = replace(
        tiny_config,
        pretrained=True,
        vggt=replace(tiny_config.vggt, weights=str(tmp_path / "vggt.safetensors")),
        llm=LLMConfig(weights=str(tmp_path / "llm")),
    )
    model = get_model(config, seed=2)
    for group in BACKBONES:
        expected, found = getattr(source, group).state_dict(), getattr(model, group).state_dict()
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert all(p.dtype == torch.float32 and not p.is_meta for p in model.parameters())
    model(make_batch(config)).step_loss.mean().backward()


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt", "README.md"])
def test_vggt_weights_that_cannot_be_read(name: str, tiny_config: AtlasVLAConfig, tmp_path: Path) -> None:
    (tmp_path / name).write_text("hello\nworld")
    vggt = replace(tiny_config.vggt, weights=str(tmp_path / name))
    with pytest.raises(UserError, match=r"^model\.vggt\.weights: can't be loaded: ") as caught:
        get_model(replace(tiny_config, pretrained=True, vggt=vggt))
    assert "\n" not in str(caught.value)


def test_assets_rebuild_a_model_without_its_weights(tiny_config: AtlasVLAConfig, tmp_path: Path) -> None:
    model = get_model(tiny_config)
    model.save_assets(tmp_path)
    config = replace(tiny_config, pretrained=True, llm=LLMConfig(weights="owner/unreachable"))
    again = get_model(config, assets=tmp_path)
    again.load_state_dict(model.state_dict())
    assert again.tokenizer("open")["input_ids"] == model.tokenizer("open")["input_ids"]
