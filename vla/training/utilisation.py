"""What a run makes of its device: memory, and the share of its peak FLOP/s that training uses (MFU).

Nothing here waits for an accelerator: memory is the allocator's own count, FLOPs follow from what batches hold.
"""

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence

import torch

from vla.batches import Batch
from vla.conf.pretrain import PretrainConfig
from vla.overwatch import initialize_overwatch
from vla.overwatch.distributed import DistState, broadcast_object, gather_objects
from vla.training.flops import FlopRates, flop_rates, peak_flops
from vla.training.seeding import preserved_rng

overwatch = initialize_overwatch(__name__)


def peak_memory(device: str) -> int | None:
    """Bytes that this process has held at most: tensors on its accelerator, or on the CPU all of its resident memory.

    None where the system doesn't tell.
    """
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def memory_metrics(dist: DistState) -> dict[str, float]:
    """`memory_gib`: GiB of the process that has held the most. All processes must call this."""
    found = [value for value in gather_objects(peak_memory(dist.device), dist) if value is not None]
    return {"memory_gib": max(found) / 2**30} if found else {}


class Utilisation:
    """Model FLOPs utilisation: FLOPs of training, recomputation not counted, over what the devices could have done.

    Args:
        rates: None measures nothing.
        peak: FLOP/s of one device; None measures nothing.
    """

    def __init__(self, rates: FlopRates | None = None, peak: float | None = None) -> None:
        self._rates, self._peak = rates, peak

    @property
    def enabled(self) -> bool:
        """Whether it is measured; the same in all processes."""
        return self._rates is not None and self._peak is not None

    def flops(self, window: Iterable[Batch], measures: Sequence[Mapping[str, list[float]]]) -> float:
        """FLOPs of a step of this process; see `FlopRates.of_step`."""
        return self._rates.of_step(window, measures) if self._rates is not None else 0.0

    def metrics(self, flops: float | None, step_time: float | None) -> dict[str, float]:
        """`mfu` of steps of `step_time` seconds with `flops` for each process, on average."""
        if flops is None or not step_time or self._peak is None:
            return {}
        return {"mfu": flops / step_time / self._peak}


def get_utilisation(config: PretrainConfig, dist: DistState, cached: Collection[str]) -> Utilisation:
    """What measures a run's MFU: nothing where the device's peak is not known, or the model can't be counted.

    Args:
        config: the run; `peak_tflops` takes precedence over what is known of the device.
        dist: this process; the main one counts for all, which must all call this.
        cached: frozen module groups whose features are computed once, and not in every step.
    """
    peak = config.peak_tflops * 1e12 if config.peak_tflops is not None else _known_peak(config, dist)
    if broadcast_object(peak, dist) is None:  # of the main process: all must take the same way
        return Utilisation()
    rates: FlopRates | None = None
    if dist.is_main:
        try:
            with preserved_rng():
                rates = flop_rates(config, cached)
        except Exception as error:  # a model of a third party may do what fake tensors can't
            reason = (str(error).splitlines() or [""])[0]
            overwatch.info(f"no MFU: the model's FLOPs can't be counted without real numbers ({reason})")
    return Utilisation(broadcast_object(rates, dist), broadcast_object(peak, dist))


def _known_peak(config: PretrainConfig, dist: DistState) -> float | None:
    """Peaks are those of 16-bit products."""
    if not dist.device.startswith("cuda") or config.stage_config.precision == "fp32":
        return None
    return peak_flops(torch.cuda.get_device_name(dist.device))
