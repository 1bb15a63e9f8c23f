"""Compiled blocks: the same numbers, and checkpoints with the same names."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from nanovlm_cases import read_case
from toys import toy_config

from vla.errors import UserError
from vla.training.compilation import check_compile, compile_blocks

has_compiler = shutil.which("g++") or shutil.which("clang++")


@pytest.mark.slow
@pytest.mark.skipif(not has_compiler, reason="needs a C++ compiler")
def test_same_losses_gradients_and_names() -> None:
    """Packs that are cut otherwise in every batch are not compiled anew."""
    case = read_case("case_dev")
    model = case.model().train()
    batch, names = case.batch(), list(model.state_dict())
    length = batch.input_ids.shape[1]
    cuts = [[0, 5, length], [0, 3, 7, length], [0, 2, 4, 9, length], [0, length]]
    batches = [
        replace(batch, segments=[(row, *pair) for row in range(len(batch)) for pair in zip(cut, cut[1:], strict=False)])
        for cut in cuts
    ]
    expected = []
    for item in batches:
        loss = model(item).token_loss.sum()
        loss.backward()
        expected.append((loss.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]))
        model.zero_grad()
    torch._dynamo.reset()
    compile_blocks(model)
    for number, (item, (loss, gradients)) in enumerate(zip(batches, expected, strict=True)):
        with torch._dynamo.config.patch(error_on_recompile=number > 0):
            found = model(item).token_loss.sum()
            found.backward()
        torch.testing.assert_close(found, loss, rtol=1e-5, atol=1e-4)
        for ours, theirs in zip((p.grad for p in model.parameters() if p.grad is not None), gradients, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
        model.zero_grad()
    assert list(model.state_dict()) == names


def test_where_torch_cannot_compile_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(function: Any) -> Any:
        raise RuntimeError("Failed to find a compiler\n\nmany more lines")

    monkeypatch.setattr(torch, "compile", fails)
    check_compile(toy_config(tmp_path / "run"), "cpu")
    expected = r"model\.align\.compile: .* needs a C\+\+ compiler \(Failed to find a compiler\); pass false$"
    with pytest.raises(UserError, match=expected):
        check_compile(toy_config(tmp_path / "run", compile=True), "cpu")
