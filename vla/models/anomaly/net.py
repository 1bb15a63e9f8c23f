"""A net made from its list of parts: each gets, besides its own options, the channels and strides of the one before."""

from collections.abc import Sequence
from dataclasses import asdict

from easydict import EasyDict

from vla.conf.models.anomaly_parts import PartConfig
from vla.conf.registry import resolve_target
from vla.models.anomaly.part import Part


def build_net(parts: Sequence[PartConfig], input_size: tuple[int, int], weights: str | None) -> dict[str, Part]:
    """
    The parts' modules by module group, in the order of the list.

    Args:
        parts: Checked (`vla.conf.models.uniad.check_net`).
        input_size: Height and width of the pictures.
        weights: Of the backbone: local file, or None for random values.
    """
    built: dict[str, Part] = {}
    by_name: dict[str, Part] = {}
    for part in parts:
        options = EasyDict(asdict(part), input_size=list(input_size))
        if part.prev is None:
            options.weights = weights
        else:
            before = by_name[part.prev]
            options.inplanes, options.instrides = before.outplanes, before.outstrides
        module = resolve_target(part)(options)
        by_name[part.name] = built[type(part).group] = module
    return built
