"""How the tensors of a file fit a model: a report of every key."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

_MAX_NAMED = 5


@dataclass(frozen=True)
class LoadReport:
    """
    How a file's keys fitted a model.

    Args:
        loaded: Number of tensors copied.
        missing: Keys of the model that the file lacks; they keep their values.
        unexpected: Keys of the file that the model lacks.
        mismatched: (key, model's shape, file's shape) of tensors that were not copied.
        skipped: Keys of parts that the model was built without; they are no misfit.
    """

    loaded: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    skipped: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether every key fitted."""
        return not (self.missing or self.unexpected or self.mismatched)

    def describe(self) -> str:
        """One line that counts the keys of each kind and names the first of them."""
        shapes = tuple(f"{key} {list(expected)} != {list(found)}" for key, expected, found in self.mismatched)
        kinds = (("missing", self.missing), ("unexpected", self.unexpected), ("mis-shaped", shapes))
        parts = [f"{len(keys)} {kind} ({_first(keys)})" for kind, keys in kinds if keys]
        return f"{self.loaded} tensors loaded" + ("; " + "; ".join(parts) if parts else "")


def match_weights(
    target: Mapping[str, Tensor], weights: Mapping[str, Tensor], skipped: tuple[str, ...] = ()
) -> tuple[dict[str, Tensor], LoadReport]:
    """
    Compare tensors with a model's by name and shape.

    Args:
        target: The model's state dict; may be on `meta`.
        weights: The file's.
        skipped: Keys of the file that were left out of `weights` on purpose, for the report.

    Returns:
        The tensors that fit, and the report.
    """
    fitting = {key: value for key, value in weights.items() if key in target and value.shape == target[key].shape}
    report = LoadReport(
        loaded=len(fitting),
        missing=tuple(key for key in target if key not in weights),
        unexpected=tuple(key for key in weights if key not in target),
        mismatched=tuple(
            (key, tuple(target[key].shape), tuple(value.shape))
            for key, value in weights.items()
            if key in target and value.shape != target[key].shape
        ),
        skipped=skipped,
    )
    return fitting, report


def _first(keys: tuple[str, ...]) -> str:
    return ", ".join(keys[:_MAX_NAMED]) + (", ..." if len(keys) > _MAX_NAMED else "")
