"""Weights by module group: round trip, what doesn't fit, and tensors with two names."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from vla.models.materialize import get_model
from vla.models.vlas.atlas import AtlasVLA
from vla.models.weights import load_groups, read_groups, save_groups


def test_round_trip(tiny_model: AtlasVLA, tmp_path: Path) -> None:
    files = save_groups(tiny_model.state_dict(), tmp_path)
    assert [path.name for path in files] == [f"{name}.safetensors" for name in tiny_model.module_groups()]
    other = get_model(tiny_model.config, seed=99)
    report = load_groups(other, tmp_path)
    assert report.exact and report.loaded == len(tiny_model.state_dict())
    report.raise_unless_exact(tmp_path)
    for key, value in tiny_model.state_dict().items():
        assert torch.equal(other.state_dict()[key], value)


def test_some_groups(tiny_model: AtlasVLA, tmp_path: Path) -> None:
    assert [path.stem for path in save_groups(tiny_model.state_dict(), tmp_path, ["fusion", "action_head"])] == [
        "fusion",
        "action_head",
    ]
    other = get_model(tiny_model.config, seed=99)
    before = {key: value.clone() for key, value in other.state_dict().items()}
    assert load_groups(other, tmp_path, ["fusion"]).exact
    changed = {
        key.partition(".")[0] for key, value in other.state_dict().items() if not torch.equal(value, before[key])
    }
    assert changed == {"fusion"}
    with pytest.raises(FileNotFoundError, match=r"no weights of llm_backbone \(there are: action_head, fusion\)"):
        load_groups(other, tmp_path, ["llm_backbone"])
    report = load_groups(other, tmp_path)
    assert not report.exact and all("backbone" in key or "geometry" in key for key in report.missing)


class _Two(nn.Module):
    def __init__(self, width: int = 3, tied: bool = False) -> None:
        super().__init__()
        self.group = nn.ModuleDict({"a": nn.Linear(2, width, bias=False), "b": nn.Linear(2, width, bias=False)})
        if tied:
            self.group["b"].weight = self.group["a"].weight


def test_what_does_not_fit_is_reported(tmp_path: Path) -> None:
    state = _Two(width=4).state_dict()
    state["group.c"] = torch.zeros(1)
    del state["group.b.weight"]
    save_groups(state, tmp_path)
    model = _Two()
    before = model.group["a"].weight.clone()
    report = load_groups(model, tmp_path)
    assert report.missing == ["group.b.weight"] and report.unexpected == ["group.c"]
    assert report.mismatched == ["group.a.weight [3, 2] != [4, 2]"]
    assert torch.equal(model.group["a"].weight, before)
    with pytest.raises(ValueError, match=r"do not fit the model: 0 tensors loaded; 1 missing \(group.b.weight\)"):
        report.raise_unless_exact(tmp_path)


def test_tied_tensors_are_written_once(tmp_path: Path) -> None:
    tied = _Two(tied=True)
    (file,) = save_groups(tied.state_dict(), tmp_path)
    assert list(load_file(file)) == ["group.a.weight"]
    other = _Two(tied=True)
    assert load_groups(other, tmp_path).exact
    assert torch.equal(other.group["b"].weight, tied.group["a"].weight)
    assert load_groups(_Two(), tmp_path).exact  # a model that doesn't tie them gets both
    assert set(read_groups(tmp_path)) == {"group.a.weight", "group.b.weight"}


def test_views_of_one_storage(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    save_groups({"g.first": whole[:3], "g.last": whole[3:], "g.empty": torch.zeros(0)}, tmp_path)
    found = read_groups(tmp_path)
    assert found["g.first"].tolist() == [0, 1, 2] and found["g.last"].tolist() == [3, 4, 5]


def test_no_weights(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no weights of any module group \(there are: none\)"):
        read_groups(tmp_path)
