"""Instructions that training never saw are named before the evaluation begins."""

from dataclasses import replace

import pytest

from vla.conf.datasets import LiberoMiniConfig
from vla.conf.pretrain import PretrainConfig
from vla.serving.instructions_check import check_instructions, trained_instructions

MINI = LiberoMiniConfig()
MILK = "pick up the milk and place it in the basket"
pytestmark = pytest.mark.skipif(not list(MINI.root.glob("*.hdf5")), reason="libero-mini is not here")


class Trained:
    """Of a policy, what the check looks at."""

    def __init__(self, **changes):
        self.config = PretrainConfig(dataset=replace(MINI, **changes))


def test_instructions_of_the_training_data_pass():
    known = trained_instructions(Trained())
    assert len(known) == 4 and MILK in known
    assert check_instructions(Trained(), known).status == "passed"


def test_first_other_one_is_named_with_the_closest():
    told = [MILK, "pick the milk and place it in the basket", "open the drawer"]
    check = check_instructions(Trained(), told)
    assert check.status == "warning"
    assert check.detail == (
        "'pick the milk and place it in the basket' is not among the 4 of the training data; "
        f"the closest is '{MILK}'; 2 in all"
    )


def test_tasks_that_were_left_out_of_training_are_not_known():
    soup = "pick_up_the_alphabet_soup_and_place_it_in_the_basket"
    check = check_instructions(Trained(tasks=(soup,)), [MILK])
    assert check.status == "warning" and MILK in check.detail


def test_data_that_is_not_here_is_said(tmp_path):
    assert check_instructions(Trained(root=tmp_path), [MILK]).status == "skipped"
