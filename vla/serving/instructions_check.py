"""Is the policy told what it was trained on? An instruction in other words is another input to the language model."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import h5py

from vla.data.datasets.hdf5_index import HDF5_ERRORS, find_files
from vla.data.datasets.libero_format import instruction_of, task_name
from vla.evaluation.simulator.golden import Check
from vla.serving.policy import Policy
from vla.serving.preprocessing_check import training_data

NAME = "instructions"
WARNING = "warning"  # told, and the evaluation goes on: other words than in training may be what is to be measured


def check_instructions(policy: Policy, told: Sequence[str]) -> Check:
    """Whether every instruction of the evaluation is, to the letter, one of the training data's.

    Args:
        policy: with the training run's configuration.
        told: what the policy will be told.
    """
    known = trained_instructions(policy)
    if known is None:
        return Check(NAME, "skipped", "the training data is not here")
    unknown = [text for text in dict.fromkeys(told) if text not in known]
    if not unknown:
        return Check(NAME, "passed", f"all are among the {len(known)} of the training data")
    near = difflib.get_close_matches(unknown[0], known, n=1)
    hint = f"; the closest is '{near[0]}'" if near else ""
    detail = f"'{unknown[0]}' is not among the {len(known)} of the training data{hint}"
    return Check(NAME, WARNING, detail + (f"; {len(unknown)} in all" if len(unknown) > 1 else ""))


def trained_instructions(policy: Policy) -> list[str] | None:
    """The distinct instructions of the training run's files; None if they aren't here or none can be read."""
    config = training_data(policy)
    if config is None or config.root is None:
        return None
    found: dict[str, None] = {}
    for path in find_files(config.root, config.tasks):
        try:
            with h5py.File(path) as file:
                found[instruction_of(file["data"], task_name(path), config.instruction_source)] = None
        except HDF5_ERRORS:
            continue  # training reports such a file, or leaves it out
    return sorted(text for text in found if text) or None
