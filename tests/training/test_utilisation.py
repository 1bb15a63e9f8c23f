"""Memory and MFU: what is counted, and that it reaches metrics.jsonl."""

import json
from dataclasses import replace

import pytest
import torch
from toys import toy_config, toy_strategy

from vla.conf.models import ModelConfig
from vla.conf.pretrain import PretrainConfig
from vla.conf.stage import Stage
from vla.overwatch.distributed import DistState
from vla.training import utilisation
from vla.training.example_batch import example_batch
from vla.training.flops import FlopRates, flop_rates, peak_flops
from vla.training.utilisation import Utilisation, get_utilisation, memory_metrics, peak_memory


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", None), ("NVIDIA A10", 125e12), ("NVIDIA A10G", None),
        ("NVIDIA L40S", 362e12), ("Some Other Device", None),
    ],
)  # fmt: skip
def test_peaks_by_name(name: str, peak: float | None) -> None:
    assert peak_flops(name) == peak


def run_of(name: str, stage: Stage, **values) -> PretrainConfig:
    return PretrainConfig(model=replace(ModelConfig.get_choice_class(name)(), pretrained=False, **values), stage=stage)


def test_flops_of_a_policy_are_by_sample_and_less_with_kept_features() -> None:
    config = run_of("vggt-tiny", Stage.ALIGN)
    whole, kept = flop_rates(config), flop_rates(config, ("vision_backbone", "llm_backbone"))
    assert whole.per_sample > kept.per_sample > 0 and whole.per_token == whole.per_image == 0
    assert whole.of_step([example_batch(config.model, 3)], []) == 3 * whole.per_sample


def test_flops_of_text_are_by_token_and_image() -> None:
    """A layer more of a language model costs 6 FLOPs for each of its weights and each token, and attention."""
    rates = []
    for layers in (1, 2):
        config = run_of("prism-tiny", Stage.FINETUNE)
        llm = replace(config.model.llm_backbone, num_layers=layers, tokenizer="bytes")
        model = replace(config.model, llm_backbone=llm)
        rates.append(flop_rates(replace(config, model=model)))
    width, heads = llm.hidden_size, llm.num_kv_heads / llm.num_heads
    weights = width * width * (2 + 2 * heads) + 3 * width * llm.intermediate_size
    length, patches = config.model.processor.max_length, config.model.vision_backbone.num_patches
    attention = 3 * 4 * width * (length // 4 + length // 8 + 2 * patches)  # slope of a square between two lengths
    assert rates[1].per_token - rates[0].per_token == pytest.approx(6 * weights + attention)
    batch = example_batch(config.model, 2)
    measures = [{"tokens": [30.0], "images_per_sample": [1.0, 0.0]}]
    assert rates[0].of_step([batch], measures) == 30 * rates[0].per_token + rates[0].per_image


def test_flops_of_packed_rows_are_by_token_and_tile() -> None:
    found = flop_rates(run_of("nanovlm-tiny", Stage.FULL_FINETUNE))
    assert found.per_token > 0 and found.per_image > 0 and found.per_sample == 0


def test_mfu_of_a_run_is_in_its_metrics(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(utilisation, "flop_rates", lambda config, cached: FlopRates(per_sample=1e9))
    config = replace(toy_config(tmp_path / "run", max_steps=2), peak_tflops=0.5, report=False)
    toy_strategy(config).run_training()
    lines = [json.loads(line) for line in (config.run_dir / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in lines if "train/loss" in line]
    for line in lines:
        assert line["train/mfu"] == pytest.approx(8 * 1e9 / line["train/step_time"] / 0.5e12)  # 8 samples in a step
        assert line["train/memory_gib"] > 0 and "train/flops" not in line
    assert len(lines) == 2


def test_no_mfu_where_the_peak_or_the_count_is_not_known(tmp_path, monkeypatch, capsys) -> None:
    config = toy_config(tmp_path / "run")
    assert not get_utilisation(config, DistState(), ()).enabled  # a CPU

    def fail(*_: object) -> None:
        raise RuntimeError("data-dependent\nand more")

    monkeypatch.setattr(utilisation, "flop_rates", fail)
    assert not get_utilisation(replace(config, peak_tflops=1.0), DistState(), ()).enabled
    assert "no MFU" in capsys.readouterr().err
    assert Utilisation().metrics(None, 1.0) == {} == Utilisation(FlopRates(), 1.0).metrics(1.0, None)


def test_the_peak_of_a_gpu_is_that_of_its_16_bit_products(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 PCIe")
    monkeypatch.setattr(utilisation, "flop_rates", lambda config, cached: FlopRates(per_sample=1.0))
    config, dist = toy_config(tmp_path / "run", precision="bf16"), DistState(device="cuda:0")
    found = get_utilisation(config, dist, ())
    assert found.enabled and found.metrics(756e12, 2.0) == {"mfu": 0.5}
    assert not get_utilisation(toy_config(tmp_path / "run", precision="fp32"), dist, ()).enabled


def test_counting_draws_no_random_number(tmp_path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert get_utilisation(replace(run_of("vggt-tiny", Stage.ALIGN), peak_tflops=1.0), DistState(), ()).enabled
    assert torch.equal(torch.get_rng_state(), before)


def test_memory_is_that_of_the_process_with_the_most(monkeypatch) -> None:
    assert peak_memory("cpu") > 2**20
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**30)
    assert memory_metrics(DistState(device="cuda:0")) == {"memory_gib": 3.0}
    monkeypatch.setattr(utilisation, "gather_objects", lambda value, dist: [None, 2**30, 2**31])
    assert memory_metrics(DistState()) == {"memory_gib": 2.0}
    monkeypatch.setattr(utilisation, "gather_objects", lambda value, dist: [None])
    assert memory_metrics(DistState()) == {}


def test_a_peak_must_be_positive() -> None:
    with pytest.raises(ValueError, match="peak_tflops: must be"):
        PretrainConfig(peak_tflops=0.0)
