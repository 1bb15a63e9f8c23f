"""`DatasetConfig`, the base of all datasets."""

from dataclasses import dataclass
from typing import ClassVar

import draccus


@dataclass(frozen=True)
class DatasetConfig(draccus.ChoiceRegistry):
    """Base of all datasets. `target` is the class that reads it; it is never read from a file."""

    dataset_id: ClassVar[str] = ""
    target: ClassVar[str] = ""
    task: ClassVar[str] = ""  # action | language | anomaly: must equal the model's
    needs_stage: ClassVar[bool] = False  # whether its stages read different data

    @classmethod
    def default_choice_name(cls) -> str | None:
        """What it is when a file or the command line sets fields of it without naming its type."""
        return "libero-mini"
