"""Action tokens: published ids, their decoding, and the published metrics."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vla.models.vlas.action_tokens import ActionTokenizer


@pytest.mark.parametrize(("dtype", "key"), [(torch.float64, "token_ids"), (torch.float32, "token_ids_float32_input")])
def test_published_ids(golden: Callable[[str], Any], dtype: torch.dtype, key: str) -> None:
    for table in golden("action_tokenizer")["tables"]:
        tokens = ActionTokenizer(table["vocab_size"], table["bins"])
        actions = torch.tensor(table["actions"], dtype=torch.float64).to(dtype)
        assert tokens.encode(actions).tolist() == table[key]


def test_float32_differs_where_published(golden: Callable[[str], Any]) -> None:
    for table in golden("action_tokenizer")["tables"]:
        actions = torch.tensor(table["actions"], dtype=torch.float64)
        tokens = ActionTokenizer(table["vocab_size"], table["bins"])
        differs = (tokens.encode(actions) != tokens.encode(actions.float())).sum()
        assert differs == table["n_float32_differs"] > 0


def test_published_decoding(golden: Callable[[str], Any]) -> None:
    for table in golden("action_tokenizer")["tables"]:
        tokens = ActionTokenizer(table["vocab_size"], table["bins"])
        assert (tokens.begin_id, tokens.bins) == (table["action_token_begin_idx"], table["reported_vocab_size"])
        first, last = table["decode_id_range"]
        decoded = tokens.decode(torch.arange(first, first + len(table["decode_table"])))
        assert decoded.tolist() == table["decode_table"] and first <= tokens.begin_id < last
        ids = torch.tensor(table["token_ids"])
        assert tokens.decode(ids).tolist() == table["decoded"]


def test_published_metrics(golden: Callable[[str], Any]) -> None:
    for case in golden("vla_metrics")["cases"]:
        # predictions follow the patches, and each is of the token after it
        predicted = torch.tensor(case["predicted_ids"])[:, case["num_patches"] : -1]
        found = ActionTokenizer(512).compare(predicted, torch.tensor(case["labels"])[:, 1:])
        assert int(found.is_action.sum()) == case["n_masked"]
        assert found.correct[found.is_action].double().mean().item() == pytest.approx(case["action_accuracy"], abs=1e-7)
        assert found.l1[found.is_action].mean().item() == pytest.approx(case["l1_loss"], abs=1e-12)
        for name in set(case["dataset_names"]):
            rows = found.is_action & torch.tensor([row == name for row in case["dataset_names"]])[:, None]
            accuracy, l1 = case["per_dataset"][f"{name}/Action Token Accuracy"], case["per_dataset"][f"{name}/L1 Loss"]
            assert found.correct[rows].double().mean().item() == pytest.approx(accuracy, abs=1e-7)
            assert found.l1[rows].mean().item() == pytest.approx(l1, abs=1e-12)


@given(st.lists(st.floats(-1.5, 1.5), min_size=1), st.sampled_from([256, 11]))
def test_round_trip_is_within_half_a_bin(values: list[float], bins: int) -> None:
    tokens = ActionTokenizer(32000, bins)
    actions = torch.tensor(values, dtype=torch.float64)
    ids = tokens.encode(actions)
    assert ((ids >= tokens.first_id) & (ids < 32000)).all()
    assert ((tokens.decode(ids) - actions.clamp(-1, 1)).abs() <= 1 / (bins - 1) + 1e-12).all()


@given(st.sampled_from([512, 32000, 49152]), st.integers(2, 256))
def test_every_bin_is_its_own_token(vocab_size: int, bins: int) -> None:
    tokens = ActionTokenizer(vocab_size, bins)
    ids = torch.arange(tokens.first_id + 1, vocab_size)  # the first one is exactly +1, read as the last bin
    assert torch.equal(tokens.encode(tokens.decode(ids)), ids)


def test_more_bins_than_tokens() -> None:
    with pytest.raises(ValueError, match=r"action_bins: must be in \[2, 100\], got 256"):
        ActionTokenizer(100)
