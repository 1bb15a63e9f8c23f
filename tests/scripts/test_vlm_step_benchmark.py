"""The benchmark of training steps: what it counts, and that it runs."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from vla.conf.stage import Stage

SCRIPT = Path(__file__).parents[2] / "scripts/benchmarks/vlm_step.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_vlm_step", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("stage", [Stage.ALIGN, Stage.FINETUNE])
def test_flops_of_a_layer_are_those_of_its_products(benchmark: ModuleType, stage: Stage) -> None:
    """A layer more: 2 FLOPs for each weight and position forward, as many for what goes back, and for its own gradient
    as many again if it trains; attention's two products forward, and four back.
    """
    config, size, text = benchmark.with_layers(benchmark.SIZES["tiny"], 2), 2, 24
    longer = replace(config, llm_backbone=replace(config.llm_backbone, num_layers=3))
    found = [benchmark.count_flops(each, stage, benchmark.example(each, size, text)) for each in (config, longer)]
    llm, length = config.llm_backbone, text + config.vision_backbone.num_patches
    width, heads = llm.hidden_size, llm.num_kv_heads / llm.num_heads
    weights = width * width * (2 + 2 * heads) + 3 * width * llm.intermediate_size
    passes = 3 if stage is Stage.FINETUNE else 2
    assert found[1] - found[0] == 2 * passes * weights * size * length + 3 * 4 * size * length**2 * width


def test_it_runs(benchmark: ModuleType) -> None:
    result = benchmark.run(size="tiny", steps=1, peak=1e12)
    assert [(row["name"], row["activations"]) for row in result["rows"]] == [
        ("align", "kept"), ("align", "recomputed"), ("finetune", "kept"), ("finetune", "recomputed"),
    ]  # fmt: skip
    assert all(row["tokens_per_s"] > 0 and row["mfu"] > 0 for row in result["rows"])
