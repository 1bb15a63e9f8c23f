"""The model against recorded numbers of the published one."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from vla.conf.models.nanovlm import NanoVLM222MConfig, NanoVLM230MConfig, NanoVLM450MConfig, NanoVLM460MConfig
from vla.models.components.document_attention import Visibility
from vla.models.vlms.nanovlm import NanoVLM
from vla.models.vlms.nanovlm_generation import Sampling, filter_top, generate
from vla.models.weights.nanovlm import published_name

GREEDY = Sampling(greedy=True)
TOLERANCE = {"rtol": 0.0, "atol": 1e-6}


@torch.no_grad()
def test_every_stage_of_the_forward_pass(case) -> None:
    model, batch, recorded = case.model(), case.batch(), case.tensors
    mask = batch.attention_mask
    torch.testing.assert_close(model.vision_backbone(batch.pixel_values), recorded["out.vit"], **TOLERANCE)
    torch.testing.assert_close(model.encode_tiles(batch.pixel_values), recorded["out.projector"], **TOLERANCE)
    embeds = model.embed(batch.input_ids, batch.image_mask, batch.pixel_values)
    torch.testing.assert_close(embeds, recorded["out.inputs_embeds"], **TOLERANCE)
    for request in ("hidden", "logits"):
        torch.testing.assert_close(model(batch, request=request)[mask], recorded[f"out.{request}"][mask], **TOLERANCE)
    unmasked = replace(batch, attention_mask=torch.ones_like(mask))
    torch.testing.assert_close(model(unmasked, request="logits"), recorded["out.logits_no_mask"], **TOLERANCE)
    torch.testing.assert_close(model(unmasked).token_loss.mean()[None], recorded["out.loss_no_mask"], **TOLERANCE)


def test_losses_and_gradients(case) -> None:
    model, batch, recorded = case.model(), case.batch(), case.tensors
    output = model(batch)
    learned = recorded["in.targets"] != -100
    torch.testing.assert_close(output.token_loss, recorded["out.loss_per_token"][learned], **TOLERANCE)
    torch.testing.assert_close(output.token_loss.mean()[None], recorded["out.loss"], **TOLERANCE)
    assert output.token_row.tolist() == learned.nonzero()[:, 0].tolist()
    output.token_loss.mean().backward()
    norms = json.loads(case.metadata["grad_norms"])
    found = {published_name(name): p.grad.norm().item() for name, p in model.named_parameters()}
    assert found == pytest.approx(norms, abs=1e-5) and len(found) == len(norms)


def test_generates_what_the_published_model_does(case) -> None:
    model, batch, recorded = case.model(), case.batch(), case.tensors
    inputs = (batch.input_ids, batch.pixel_values, batch.image_mask, batch.attention_mask)
    options: dict[str, Any] = {"max_new_tokens": 12, "sampling": GREEDY}
    assert torch.equal(generate(model, *inputs, **options), recorded["gen.batch"])
    assert torch.equal(generate(model, *inputs, use_cache=False, **options), recorded["gen.batch_no_cache"])
    end = int(case.metadata["eos_used_for_gen.batch_eos"])
    seen: list[torch.Tensor] = []
    tokens = generate(model, *inputs, end_id=end, on_token=seen.append, **options)
    assert torch.equal(tokens, recorded["gen.batch_eos"])
    assert torch.equal(torch.stack(seen, dim=1), tokens[:, : len(seen)])
    text = int(case.metadata["text_only_row"])
    alone = batch.input_ids[text][batch.attention_mask[text]][None]
    assert torch.equal(generate(model, alone, **options), recorded["gen.text_only_row"])
    first = case.batch([0])
    assert torch.equal(
        generate(model, first.input_ids, first.pixel_values, first.image_mask, **options),
        recorded["gen.row0_full_T_no_mask"],
    )


def test_keys_and_values_that_are_kept(case) -> None:
    model, batch = case.model(), case.batch()
    cache: list[Any] = []
    model.next_logits(model.embed(batch.input_ids, batch.image_mask, batch.pixel_values), batch.attention_mask, cache)
    keys, values = (tensor.transpose(1, 2) for tensor in cache[0])
    torch.testing.assert_close(keys, case.tensors["kv.0.key"], **TOLERANCE)
    torch.testing.assert_close(values, case.tensors["kv.0.value"], **TOLERANCE)


def test_language_model_alone(case_of: Callable[[str], Any]) -> None:
    case = case_of("lm_dev")
    prefixed = {f"w.decoder.{name}": value for name, value in case.weights.items()}
    model = NanoVLM(case.config)
    missing = model.load_state_dict(
        {f"llm_backbone.{name[10:]}": value for name, value in prefixed.items() if "inv_freq" not in name}, strict=False
    )
    assert not missing.unexpected_keys
    lm, ids = model.eval().llm_backbone, case.tensors["in.ids"]
    length = ids.shape[1]
    with torch.no_grad():
        positions = torch.arange(length).expand_as(ids)
        logits = lm.logits(lm(lm.embed(ids), positions, length - 1, Visibility()))
    torch.testing.assert_close(logits, case.tensors["out.logits"], **TOLERANCE)
    new = generate(model, ids, max_new_tokens=case.tensors["gen.full"].shape[1] - length, sampling=GREEDY)
    assert torch.equal(torch.cat([ids, new], dim=1), case.tensors["gen.full"])
    cache: list[Any] = []
    mask = torch.ones_like(ids, dtype=torch.bool)
    model.next_logits(lm.embed(ids[:, :-1]), mask[:, 1:], cache)
    last = model.next_logits(lm.embed(ids[:, -1:]), mask, cache)
    torch.testing.assert_close(last[:, None], case.tensors["out.last_with_cache"], **TOLERANCE)


def test_sampling_leaves_out_what_the_published_filter_does(golden: Callable[[str], Any]) -> None:
    for recorded in golden("sampling_misc")["filtering"]:
        kept = filter_top(torch.tensor(recorded["logits"]), recorded["top_k"], recorded["top_p"]).isfinite()
        assert kept.int().tolist() == recorded["keep"]


def test_temperature_comes_after_the_filter() -> None:
    logits = torch.tensor([[2.0, 1.0, -5.0]]).expand(4000, -1)
    sampling = Sampling(top_k=2, top_p=1.0, temperature=0.5, generator=torch.Generator().manual_seed(0))
    chosen = sampling(logits)
    assert (chosen == 0).float().mean().item() == pytest.approx(torch.tensor(2.0).sigmoid().item(), abs=0.02)
    assert not (chosen == 2).any()
    assert Sampling(greedy=True)(logits).unique().tolist() == [0]


@pytest.mark.parametrize(
    ("config", "count"),
    [(NanoVLM222MConfig, 222_081_600), (NanoVLM450MConfig, 450_614_400), (NanoVLM460MConfig, 460_113_984)],
)
def test_sizes_are_the_published_ones(config: type, count: int) -> None:
    with torch.device("meta"):
        model = NanoVLM(config())
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_every_tensor_has_its_published_name_and_shape(golden: Callable[[str], Any]) -> None:
    listing = golden("nanovlm_state_dict")
    with torch.device("meta"):
        model, smaller = NanoVLM(NanoVLM460MConfig()), NanoVLM(NanoVLM230MConfig())
    shapes = {published_name(name): list(value.shape) for name, value in model.state_dict().items()}
    shapes["decoder.rotary_embd.inv_freq"] = list(model.llm_backbone.rotary_embd.inv_freq.shape)
    assert shapes == {name: shape for name, (shape, _) in listing["state_dict"].items()}
    for group, part in (("vision_backbone", "vision_encoder"), ("projector", "MP"), ("llm_backbone", "decoder")):
        count = sum(parameter.numel() for parameter in model.module_groups()[group].parameters())
        assert count == listing["n_parameters_by_part"][part]
    assert smaller.vision_backbone.state_dict().keys() == model.vision_backbone.state_dict().keys()
