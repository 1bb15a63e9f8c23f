"""PrismaticVLM gives the published numbers, in the order of its input, and its loss is that of all logits."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vla.batches import IGNORE_INDEX, LanguageBatch
from vla.conf.models.prismatic.small import PrismDINOSigLIPTinyConfig, PrismTinyConfig
from vla.conf.stage import Stage
from vla.models.freezing import apply_stage
from vla.models.vlms.prismatic import PATCHES, PrismaticVLM

Rows = Callable[[list[int]], LanguageBatch]
PUBLISHED_ORDER = [0, 2, 1, 3]  # samples with an image come first


def full_loss(model: PrismaticVLM, batch: LanguageBatch) -> Tensor:
    """The mean over all labelled tokens, from logits at all positions, as published."""
    logits, labels, _ = model(batch, request="logits")
    return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE_INDEX)


def test_golden_forward(golden: dict[str, Tensor], golden_model: PrismaticVLM, golden_batch: LanguageBatch) -> None:
    with_image = golden["in.multimodal_indices"]
    patches = golden_model.vision_backbone({"siglip": golden_batch.pixel_values["siglip"][with_image]})
    torch.testing.assert_close(patches, golden["out.patch_features"], rtol=0, atol=1e-5)
    torch.testing.assert_close(golden_model.projector(patches), golden["out.projected"], rtol=0, atol=1e-5)
    fused = golden_model.fuse_batch(golden_batch, published_order=True)
    torch.testing.assert_close(fused.embeds, golden["out.fused_embeds"], rtol=0, atol=1e-5)
    logits, labels, mask = golden_model(golden_batch, request="published")
    assert torch.equal(labels, golden["out.fused_labels"]) and torch.equal(mask, golden["out.fused_attention_mask"])
    seen = mask[..., None].expand_as(logits)
    torch.testing.assert_close(logits[seen], golden["out.logits"][seen], rtol=0, atol=1e-5)
    loss = golden_model(golden_batch).token_loss.mean()
    torch.testing.assert_close(loss, golden["out.loss"][0], rtol=0, atol=1e-5)


def test_output_is_in_the_inputs_order(golden_model: PrismaticVLM, golden_batch: LanguageBatch) -> None:
    ours = golden_model(golden_batch, request="logits")
    published = golden_model(golden_batch, request="published")
    for mine, theirs in zip(ours, published, strict=True):
        assert torch.equal(mine[PUBLISHED_ORDER], theirs)


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [3, 0], [0, 2], [1, 3]], ids=["mixed", "text first", "images", "text"])
def test_loss_is_that_of_all_logits(rows: list[int], golden_model: PrismaticVLM, rows_of: Rows) -> None:
    gradients, losses = [], []
    for loss_of in (lambda batch: golden_model(batch).token_loss.mean(), lambda batch: full_loss(golden_model, batch)):
        golden_model.zero_grad()
        losses.append(loss_of(rows_of(rows)))
        losses[-1].backward()
        gradients.append({name: p.grad for name, p in golden_model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(losses[0], losses[1])
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-6, msg=name)
    untouched = {name for name in golden_model.state_dict() if name not in gradients[0]}
    has_image = bool(rows_of(rows).is_multimodal.any())
    assert has_image == ("projector.projector.0.weight" in gradients[0])
    assert not has_image or untouched == golden_model.unused_parameters()


def test_output_names_rows_and_right_tokens(golden_model: PrismaticVLM, golden_batch: LanguageBatch) -> None:
    output = golden_model(golden_batch)
    assert output.token_row.tolist() == [0] * 6 + [1] * 5 + [2] * 8 + [3] * 4
    logits, labels, _ = golden_model(golden_batch, request="logits")
    right = (logits[:, :-1].argmax(-1) == labels[:, 1:])[labels[:, 1:] != IGNORE_INDEX]
    assert torch.equal(output.token_correct, right)


def test_samples_do_not_see_each_other(golden_model: PrismaticVLM, golden_batch: LanguageBatch, rows_of: Rows) -> None:
    together = golden_model(golden_batch)
    for row in range(4):
        alone = golden_model(rows_of([row]))
        torch.testing.assert_close(alone.token_loss, together.token_loss[together.token_row == row])


def test_text_alone_has_no_place_for_patches(golden_model: PrismaticVLM, rows_of: Rows) -> None:
    logits, labels, mask = golden_model(rows_of([1, 3]), request="logits")
    assert logits.shape[:2] == labels.shape == mask.shape == (2, 15)


def test_nothing_to_learn_gives_an_empty_loss(golden_model: PrismaticVLM, golden_batch: LanguageBatch) -> None:
    batch = replace(golden_batch, labels=torch.full_like(golden_batch.labels, IGNORE_INDEX))
    loss = golden_model(batch).token_loss
    assert loss.shape == (0,)
    loss.sum().backward()
    assert not golden_model.llm_backbone.llm.lm_head.weight.grad.any()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_kept_patches_stand_for_the_images(precision: str, golden: dict[str, Tensor], rows_of: Rows) -> None:
    model = PrismaticVLM(replace(PrismTinyConfig(), feature_precision=precision))
    apply_stage(model, model.config.stage(Stage.ALIGN))
    batch = rows_of([3, 0, 2])
    (source,) = model.feature_sources().values()
    assert source.keys(batch) == [3, 0, 2]
    features = source.compute(batch)
    assert features[PATCHES].dtype == {"fp32": torch.float32, "fp16": torch.float16}[precision]
    blind = replace(batch, pixel_values={"siglip": torch.zeros_like(batch.pixel_values["siglip"])}, features=features)
    assert torch.equal(model(blind).token_loss, model(batch).token_loss)


def test_two_towers_stand_side_by_side(rows_of: Rows) -> None:
    model = PrismaticVLM(PrismDINOSigLIPTinyConfig()).eval()
    batch = rows_of([0, 1])
    pixels = batch.pixel_values["siglip"]
    batch.pixel_values["dino"] = pixels
    patches = model.vision_backbone(batch.pixel_values)
    assert patches.shape == (2, 4, 64)
    dino = model.vision_backbone.dino_featurizer
    tokens = dino.get_intermediate_layers(pixels, n={len(dino.blocks) - 2})[0]
    torch.testing.assert_close(patches[..., :32], tokens[:, -4:])  # the class token and four registers are dropped
    names = {name.partition(".")[0] for name in model.vision_backbone.state_dict()}
    assert names == {"dino_featurizer", "siglip_featurizer"}
    model(batch).token_loss.sum().backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == model.unused_parameters()


def test_gradient_checkpointing_gives_the_same_gradients(
    golden_model: PrismaticVLM, golden_batch: LanguageBatch
) -> None:
    golden_model.train()
    gradients = []
    for enabled in (False, True):
        golden_model.set_gradient_checkpointing(enabled)
        golden_model.zero_grad()
        golden_model(golden_batch).token_loss.sum().backward()
        gradients.append([p.grad.clone() for p in golden_model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed, rtol=1e-5, atol=1e-7)


def test_assets_rebuild_it(golden_model: PrismaticVLM, golden_batch: LanguageBatch, tmp_path: Path) -> None:
    golden_model.save_assets(tmp_path)
    again = PrismaticVLM(replace(PrismTinyConfig(), pretrained=True), assets=tmp_path).eval()
    again.load_state_dict(golden_model.state_dict())
    assert torch.equal(again(golden_batch).token_loss, golden_model(golden_batch).token_loss)
    assert len(again.llm_backbone.tokenizer) == len(golden_model.llm_backbone.tokenizer) == 260
