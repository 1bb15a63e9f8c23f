"""What both sides of a model must agree on, compared field by field: a difference refuses, unless it is named.

`Processor.contract()` is what a checkpoint says; the other side is the run that resumes it or begins with its weights,
a dataset or a simulator.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from vla.errors import UserError
from vla.overwatch import initialize_overwatch

overwatch = initialize_overwatch(__name__)

OPTION = "override_contract"
_MEANT = ("transforms", "prompt", "tokens_per_tile", "resize", "model_gripper")  # of a contract, besides its config
_OWN = ("augmentation", "max_instruction_tokens", "max_length", "system_prompt", "image_score", "score_pool")
_SHOWN = 6  # differences that an error tells of
_LONGEST = 60  # characters of a value in an error

Difference = tuple[str, Any, Any]  # dotted name of the field, its value in the checkpoint, its value here


def find_differences(saved: Any, here: Any, path: str = "") -> list[Difference]:
    """Fields in which two nested plain values (dict, list, number, text) differ; lists and tuples are alike."""
    if isinstance(saved, dict) and isinstance(here, dict):
        names = [*saved, *(name for name in here if name not in saved)]
        return [
            found
            for name in names
            for found in find_differences(saved.get(name), here.get(name), f"{path}.{name}".lstrip("."))
        ]
    if isinstance(saved, list | tuple) and isinstance(here, list | tuple):
        return [] if _as_lists(saved) == _as_lists(here) else [(path, saved, here)]
    return [] if saved == here else [(path, saved, here)]


def refuse_differences(differences: Iterable[Difference], where: str, override: Sequence[str] = ()) -> None:
    """Raise an error that shows all differences, but for those that the user has named.

    Args:
        differences: see `find_differences`.
        where: the other side: "this run", "the dataset", "the simulator".
        override: dotted names of fields that may differ; a field is meant by its full name alone.

    Raises:
        UserError: a field differs, or a name in `override` is no field that does; one line.
    """
    differences = list(differences)
    names = {name for name, _, _ in differences}
    for name in override:
        if name not in names:
            known = ", ".join(sorted(names)) or "none differs"
            overwatch.warning(f"{OPTION}: {name} does not differ between the checkpoint and {where} ({known})")
    left = sorted((item for item in differences if item[0] not in override), key=lambda item: item[0])
    for name, saved, here in differences:
        if name in override:
            overwatch.warning(f"{name}: {_plain(saved)} in the checkpoint, {_plain(here)} in {where}; overridden")
    if left:
        raise UserError(
            f"{OPTION}: the checkpoint was made for something else: {describe_differences(left, where)}; if you know "
            f"better, pass --{OPTION} {','.join(name for name, _, _ in left)}"
        )


def describe_differences(differences: Iterable[Difference], where: str) -> str:
    """Differences in one line, by name; `where` is the other side."""
    found = sorted(differences, key=lambda item: item[0])
    shown = [f"{name} {_plain(a)} in the checkpoint, {_plain(b)} in {where}" for name, a, b in found[:_SHOWN]]
    return "; ".join([*shown, *([f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else [])])


def refuse_other_data(datasets: Any, override: Sequence[str] = ()) -> None:
    """Compare what a Processor was made for with what the data is: meaning of actions and states, pictures' size.

    Args:
        datasets: a `Datasets`; data without `conventions` is not compared.
        override: see `refuse_differences`.

    Raises:
        UserError: see `refuse_differences`.
    """
    saved = getattr(datasets.processor, "conventions", None)
    here = getattr(datasets.train, "conventions", None)
    if saved is None or here is None:
        return
    found = _compare_conventions(saved.to_dict(), here.to_dict(), datasets.processor.config.proprio)
    refuse_differences(found, "the dataset", override)


def refuse_other_processor(saved: dict[str, Any], here: dict[str, Any], override: Sequence[str] = ()) -> None:
    """Compare the contract of a checkpoint with that of a run that begins with its weights and its own data.

    Compared is what the weights have learnt to see and to say. Statistics may be others: they are of the run's data,
    and the run is trained with them. So may be what a stage chooses for its training alone (`_OWN`), and a contract of
    another kind (language, action) has nothing to be compared with.

    Args:
        saved, here: `contract()` of the two processors.
        override: see `refuse_differences`.

    Raises:
        UserError: see `refuse_differences`; fields are named `processor.<field>` and `conventions.<field>`.
    """
    if saved.get("kind") != here.get("kind"):
        return
    left, right = ({key: side[key] for key in _MEANT if key in side} for side in (saved, here))
    configs = [
        {name: value for name, value in side.get("config", {}).items() if name not in _OWN} for side in (saved, here)
    ]
    found = find_differences(configs[0], configs[1], "processor") + find_differences(left, right)
    if "conventions" in saved and "conventions" in here:
        proprio = bool(here["config"]["proprio"])
        found += _compare_conventions(saved["conventions"], here["conventions"], proprio)
    refuse_differences(found, "this run", override)


def _compare_conventions(saved: dict[str, Any], here: dict[str, Any], proprio: bool) -> list[Difference]:
    """What differs between two `Conventions.to_dict()`, and matters; what isn't known of one is like any."""
    left, right = ({k: v for k, v in side.items() if proprio or not k.startswith("proprio")} for side in (saved, here))
    for name in ("image_shape", "wait_steps", "horizons"):
        if left.get(name) in (None, {}) or right.get(name) in (None, {}):
            left[name] = right[name] = None
    return find_differences(left, right, "conventions")


def _as_lists(value: Any) -> Any:
    """A value with lists in the place of tuples, whatever holds them."""
    if isinstance(value, dict):
        return {name: _as_lists(item) for name, item in value.items()}
    return [_as_lists(item) for item in value] if isinstance(value, list | tuple) else value


def _plain(value: Any) -> str:
    text = str(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
