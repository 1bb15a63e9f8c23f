"""LoRA: adapters of peft's that a stage trains, that checkpoints keep, and that are merged into what they adapt."""

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from vla.batches import ActionBatch
from vla.conf.models import ModelConfig
from vla.conf.models.atlas import EfficientNetTinyConfig
from vla.conf.models.lora import LoRAConfig
from vla.conf.models.openvla import OpenVLATinyConfig
from vla.conf.models.openvla_oft import OpenVLAOFT7BConfig, OpenVLAOFTTinyConfig
from vla.errors import UserError
from vla.models import lora as lora_module
from vla.models.freezing import apply_stage
from vla.models.lora import MARK, adapters, merge_lora, plain_name
from vla.models.materialize import get_model
from vla.models.vlas.openvla import OpenVLA
from vla.models.weights.adapters import merge_adapter, write_adapter
from vla.models.weights.openvla import published_name
from vla.models.weights.openvla_export import write_openvla

pytestmark = pytest.mark.skipif(find_spec("peft") is None, reason="needs the lora extra")

RANK4 = LoRAConfig(rank=4)


def build(config: Any = None, lora: LoRAConfig = RANK4, seed: int = 7) -> Any:
    return get_model(replace(config or OpenVLATinyConfig(), lora=lora), seed=seed).eval()


def disturb(model: Any) -> None:
    """Adapters that change something, as after training."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))


class TestAdding:
    def test_published_settings(self) -> None:
        config = OpenVLAOFT7BConfig().lora
        assert (config.rank, config.resolved_alpha, config.dropout, config.init) == (32, 16, 0.0, "gaussian")
        assert config.targets == ("all-linear",) and LoRAConfig(rank=8).resolved_alpha == 8
        assert ModelConfig.get_choice_class("openvla-7b")().lora.rank == 0

    def test_nothing_changes_at_first(self, make_batch: Callable[..., ActionBatch]) -> None:
        batch = make_batch(OpenVLATinyConfig())
        assert torch.equal(build().predict(batch), build(lora=LoRAConfig()).predict(batch))

    def test_all_linear_layers_but_the_last(self) -> None:
        model = build()
        adapted = {name for name, _ in adapters(model)}
        plain = build(lora=LoRAConfig())
        linear = {name for name, module in plain.named_modules() if isinstance(module, torch.nn.Linear)}
        assert linear - adapted == {"llm_backbone.llm.lm_head"} and adapted <= linear
        layer = dict(adapters(model))["projector.projector.0"]
        assert layer.scaling["default"] == 1.0 and layer.lora_A["default"].weight.shape[0] == 4
        assert not layer.lora_B["default"].weight.any()

    def test_names_of_layers(self) -> None:
        lora = LoRAConfig(rank=2, targets=("q_proj", "v_proj"), groups=("llm_backbone",))
        assert {name.rpartition(".")[2] for name, _ in adapters(build(lora=lora))} == {"q_proj", "v_proj"}
        with pytest.raises(UserError, match=r"model.lora.targets: no linear layer of llm_backbone is one of w_proj"):
            build(lora=replace(lora, targets=("w_proj",)))

    def test_every_language_model_can_have_them(self) -> None:
        config = replace(EfficientNetTinyConfig(), lora=LoRAConfig(rank=2, groups=("llm_backbone",)))
        model = get_model(config)
        rows = apply_stage(model, config.finetune)
        assert {row.name: row.trainable > 0 for row in rows}["llm_backbone"]
        assert all(MARK in n for n, p in model.llm_backbone.named_parameters() if p.requires_grad)  # type: ignore[union-attr]

    def test_without_peft(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lora_module, "find_spec", lambda name: None)
        with pytest.raises(UserError, match=r"model.lora.rank: 4 needs peft: pip install .\[lora\]") as raised:
            build()
        assert "\n" not in str(raised.value)

    @pytest.mark.parametrize(("values", "message"), [
        ({"rank": -1}, "rank: must be >= 0"), ({"rank": 2, "init": "zero"}, "init: must be one of gaussian, kaiming"),
        ({"rank": 2, "targets": ()}, "targets: must name"), ({"rank": 2, "alpha": 0.0}, "alpha: must be > 0"),
    ])  # fmt: skip
    def test_values_out_of_range(self, values: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            LoRAConfig(**values)


class TestTraining:
    def test_a_stage_trains_adapters_in_its_groups(self) -> None:
        model = build()
        rows = apply_stage(model, model.config.finetune)
        trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert trained and all(MARK in name for name in trained)
        assert {name.partition(".")[0] for name in trained} == {"projector", "llm_backbone"}
        assert model.frozen_groups == {"vision_backbone"} and sum(row.trainable for row in rows) < 40_000

    def test_new_parts_train_themselves(self, make_batch: Callable[..., ActionBatch]) -> None:
        model = build(replace(OpenVLAOFTTinyConfig(), film=True))
        apply_stage(model, model.config.full_finetune)
        batch = make_batch(model.config)
        model.train()(batch).step_loss.mean().backward()
        with_gradient = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        beside = model.parameters_beside_adapters() - model.unused_parameters()
        assert beside and beside <= with_gradient
        assert any(name.startswith("action_head.") for name in with_gradient)
        rest = {name for name in with_gradient if not name.startswith("action_head.")} - beside
        assert rest and all(MARK in name for name in rest)

    def test_it_learns(self, make_batch: Callable[..., ActionBatch]) -> None:
        model = build(lora=LoRAConfig(rank=16, dropout=0.05))
        apply_stage(model, model.config.full_finetune)
        batch = make_batch(model.config)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer, losses = torch.optim.AdamW(parameters, lr=1e-2), []
        for _ in range(30):
            optimizer.zero_grad()
            losses.append(model.train()(batch).step_loss.mean())
            losses[-1].backward()
            optimizer.step()
        assert losses[-1] < 0.9 * losses[0]


class TestMerging:
    @pytest.mark.parametrize("lora", [RANK4, LoRAConfig(rank=3, alpha=9.0, rank_stabilised=True),
                                      LoRAConfig(rank=2, dora=True)])  # fmt: skip
    def test_merged_models_act_the_same(self, make_batch: Callable[..., ActionBatch], lora: LoRAConfig) -> None:
        model = build(lora=lora)
        disturb(model)
        batch = make_batch(model.config)
        before = model(batch).step_loss
        assert not torch.allclose(before, build(lora=LoRAConfig())(batch).step_loss, atol=1e-4)
        assert merge_lora(model) == 57
        torch.testing.assert_close(model(batch).step_loss, before, rtol=1e-4, atol=1e-4)
        assert set(model.state_dict()) == set(build(lora=LoRAConfig()).state_dict())

    def test_folders_are_merged_without_a_model(self, tmp_path: Path, make_batch: Callable[..., ActionBatch]) -> None:
        model = build()
        disturb(model)
        plain = build(lora=LoRAConfig())
        plain.load_state_dict({plain_name(n): v for n, v in model.state_dict().items() if MARK not in n})
        write_openvla(plain, tmp_path / "base", {}, dtype=torch.float32, shard_bytes=300_000)
        towers = list(model.vision_backbone.towers)
        count = write_adapter(model, RANK4, tmp_path / "adapter", lambda name: published_name(name, towers), "base")
        assert count == merge_adapter(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged") == 57
        llm = replace(OpenVLATinyConfig().llm_backbone, tokenizer=None)
        config = replace(OpenVLATinyConfig(), pretrained=True, weights=str(tmp_path / "merged"), llm_backbone=llm)
        merged = get_model(config).eval()
        merge_lora(model)
        for name, value in merged.state_dict().items():
            torch.testing.assert_close(value, model.state_dict()[name], rtol=0, atol=1e-6)
        assert isinstance(merged, OpenVLA)

    def test_peft_reads_what_is_written(self, tmp_path: Path) -> None:
        """Into a model of another code base: here the toolkit's own parts under other names."""
        from peft import PeftModel

        model = build()
        disturb(model)
        write_adapter(model, RANK4, tmp_path, lambda name: name, None)
        plain: Any = build(lora=LoRAConfig())
        read = PeftModel.from_pretrained(plain, str(tmp_path))
        merged = read.merge_and_unload()
        merge_lora(model)
        for name, value in merged.state_dict().items():
            torch.testing.assert_close(value, model.state_dict()[name], rtol=0, atol=1e-6)

    def test_what_cannot_be_merged(self, tmp_path: Path) -> None:
        base, adapter, out = (tmp_path / name for name in ("base", "adapter", "out"))
        model = build(lora=LoRAConfig(rank=2, groups=("projector",)))
        write_openvla(build(lora=LoRAConfig()), base, {})
        with pytest.raises(UserError, match="adapter: .*can't be read as adapters"):
            merge_adapter(base, adapter, out)
        write_adapter(model, LoRAConfig(rank=2), adapter, lambda name: f"elsewhere.{name}", None)
        with pytest.raises(
            UserError, match=r"adapts elsewhere\.projector\.projector\.0\.weight and 2 more that .* has not"
        ):
            merge_adapter(base, adapter, out)
        with pytest.raises(UserError, match="output: must be another folder than base"):
            merge_adapter(base, adapter, base)
        values = json.loads((adapter / "adapter_config.json").read_text()) | {"use_dora": True}
        (adapter / "adapter_config.json").write_text(json.dumps(values))
        with pytest.raises(UserError, match=r"no plain LoRA \(use_dora\)"):
            merge_adapter(base, adapter, out)
