"""The published packer against recorded packs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vla.data.packing.packer import Admission, Size, pack_all
from vla.data.packing.published import PublishedPacker, balanced_bags

CASES = json.loads((Path(__file__).parents[2] / "golden" / "nanovlm" / "packing.json").read_text())["cases"]


def admitted(case: dict[str, Any]) -> Iterator[Size]:
    """What gets into the buffer of a case: samples of its worker that are neither filtered nor too large."""
    options = case["kwargs"]
    admission = Admission(options["max_sample_length"] - 1, options["max_images_per_example"], separators=1)
    first, step = case["worker"] or (0, 1)
    for index in range(first, len(case["samples"]), step):
        sample = case["samples"][index]
        size = None if sample is None else admission.size(index, *sample)
        if size is not None:
            yield size


def packer(case: dict[str, Any], seed: int | None) -> PublishedPacker:
    options = case["kwargs"]
    return PublishedPacker(
        options["seq_length"], options["max_images_per_knapsack"], options["num_of_sequences"], seed=seed
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['name']}-{(case['worker'] or [0])[0]}")
def test_packs_are_the_recorded_ones(case: dict[str, Any]) -> None:
    assert list(pack_all(packer(case, None), admitted(case))) == case["packs_unshuffled"]
    assert list(pack_all(packer(case, case["shuffle_seed"]), admitted(case))) == case["packs_shuffled"]
    lengths = [sum(case["samples"][key][0] + 1 for key in pack) for pack in case["packs_unshuffled"]]
    assert lengths == case["pack_tokens"]


def test_goes_on_where_another_packer_stood() -> None:
    case = CASES[0]
    sizes = list(admitted(case))
    by_key = {size.key: size for size in sizes}
    expected = list(pack_all(packer(case, 42), sizes))
    for stop in (0, 17, 60, 121):
        first, packs = packer(case, 42), []
        for size in sizes[:stop]:
            while first.is_full:
                packs.append(first.take())
            first.add(size)
        second = packer(case, 1)
        second.load_state_dict(json.loads(json.dumps(first.state_dict())), by_key)
        assert len(second) == len(first)
        assert packs + list(pack_all(second, sizes[stop:])) == expected


def test_the_lightest_bag_that_has_room_for_the_images_takes_a_sample() -> None:
    bags = balanced_bags([6, 5, 4, 3], [2, 0, 2, 1], seq_length=10, max_images=3, spare_bags=0)
    assert bags == [[0, 3], [1, 2]]
    assert balanced_bags([9, 9, 9], [0, 0, 0], seq_length=10, max_images=0, spare_bags=-1) == [[0], [1], [2]]
