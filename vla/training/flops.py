"""Floating-point operations of training, counted on shapes alone, and what devices can do of them (MFU).

Counted are the matrix products and convolutions of a forward and a backward pass that recomputes nothing, attention as
if it were not causal; what does not train needs no gradient of its weights, and none is counted.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vla.batches import Batch, LanguageBatch, PackedBatch
from vla.conf.pretrain import PretrainConfig
from vla.models.base import BaseModel
from vla.models.freezing import apply_stage
from vla.models.materialize import get_model
from vla.training.example_batch import example_batch, example_features
from vla.training.memory import to_fake
from vla.training.optim import freeze_multiplied_by_zero

# Dense bf16 FLOP/s of a whole device by words of its name (`torch.cuda.get_device_name`); the first whose words are all
# there counts. From the makers' data sheets; NVIDIA's figures "with sparsity" are halved.
PEAKS = (
    ("H100 PCIe", 756e12),  # NVIDIA H100 data sheet
    ("H100 NVL", 835e12),
    ("H100", 989e12),
    ("H200 NVL", 836e12),  # NVIDIA H200 data sheet
    ("H200", 989e12),
    ("GH200", 989e12),  # NVIDIA GH200 data sheet
    ("B200", 2250e12),  # NVIDIA DGX B200 data sheet, of one of eight
    ("A100", 312e12),  # NVIDIA A100 data sheet
    ("A40", 149.7e12),  # NVIDIA A40 data sheet
    ("A30", 165e12),  # NVIDIA A30 data sheet
    ("A10", 125e12),  # NVIDIA A10 data sheet
    ("L40S", 362e12),  # NVIDIA L40S data sheet
    ("L40", 181e12),  # NVIDIA L40 data sheet
    ("L4", 121e12),  # NVIDIA L4 data sheet
    ("MI300X", 1307e12),  # AMD Instinct MI300X data sheet
)


def peak_flops(device_name: str) -> float | None:
    """Dense bf16 FLOP/s of a device by its name; None where they are not known, as of a slice of one (MIG)."""
    words = set(device_name.replace("-", " ").split())
    if "MIG" in words:
        return None
    return next((peak for known, peak in PEAKS if words.issuperset(known.split())), None)


def training_flops(model: BaseModel, *batches: Batch) -> list[int]:
    """FLOPs of one forward and backward pass on each of `batches`, without computing anything.

    Args:
        model: on `meta`, in the mode and with the frozen groups of training; its parameters are replaced by fake ones.
        batches: as the model takes them, any values.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    to_fake(model, mode)
    counts = []
    for batch in batches:
        fake = batch.map_tensors(lambda item: mode.from_tensor(item) if item.is_floating_point() else item)
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            output: Any = model(fake)
            terms = [tensor.float().sum() for tensor in _tensors(output) if tensor.requires_grad]
            torch.stack(terms).sum().backward()
        counts.append(int(counter.get_total_flops()))
    return counts


def _tensors(value: Any) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif is_dataclass(value):
        for item in fields(value):
            yield from _tensors(getattr(value, item.name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


@dataclass(frozen=True)
class FlopRates:
    """FLOPs of training on a batch: linear in what it holds.

    Exact for samples of one shape. Texts differ in length, and what attention to other tokens takes is not linear:
    it is taken as in texts of an eighth to a quarter of the greatest length, in packed rows as in full ones. All tokens
    are taken as learned.
    """

    per_sample: float = 0.0
    per_token: float = 0.0  # of a text, no padding
    per_image: float = 0.0  # with what its patches cost besides the tokens that are counted

    def of_step(self, window: Iterable[Batch], measures: Sequence[Mapping[str, list[float]]]) -> float:
        """FLOPs of a step.

        Args:
            window: its micro-batches.
            measures: what the task measured of them (`measure`), if it does.
        """
        samples = sum(len(batch) for batch in window)
        tokens, images = (
            sum(sum(measured.get(name, ())) for measured in measures) for name in ("tokens", "images_per_sample")
        )
        return self.per_sample * samples + self.per_token * tokens + self.per_image * images


def flop_rates(config: PretrainConfig, cached: Collection[str] = ()) -> FlopRates:
    """Count what training as `config` says takes.

    Args:
        config: the run.
        cached: frozen module groups whose features are computed once, and not in every step.

    Raises:
        Exception: of any kind, where a model can't do without real numbers.
    """

    model = get_model(replace(config.model, pretrained=False), device="meta", seed=config.seed)
    apply_stage(model, config.stage_config)
    freeze_multiplied_by_zero(model, config.stage_config)
    model.train()
    features = example_features(model, config, cached)
    batches: list[Any] = _samples(example_batch(config.model, 1))
    for batch in batches:
        batch.features.update({name: torch.zeros_like(value, device="cpu") for name, value in features.items()})
    counts = training_flops(model, *batches)
    if len(batches) == 1:
        return FlopRates(per_sample=counts[0])
    # FLOPs = per_token * tokens + per_image * images, for both batches
    (tokens, images), (fewer_tokens, fewer_images) = (_content(batch) for batch in batches)
    both = np.array([[tokens, images], [fewer_tokens, fewer_images]], dtype=float)
    per_token, per_image = np.linalg.solve(both, np.array(counts, dtype=float))
    return FlopRates(per_token=float(per_token), per_image=float(per_image))


def _samples(batch: Batch) -> list[Batch]:
    """What to count on: `batch`, a sample; of text with pictures two, with more and less of the one or the other."""
    if isinstance(batch, PackedBatch):
        _, tiles = _content(batch)
        places = batch.image_mask.cumsum(1) <= int(batch.image_mask.sum()) // tiles  # those of the first
        first = {tower: value[:1] for tower, value in batch.pixel_values.items()}
        fewer = replace(batch, pixel_values=first, image_mask=batch.image_mask & places, features={})
        return [batch, fewer]
    if isinstance(batch, LanguageBatch):
        length = batch.input_ids.shape[1]
        return [_cut(batch, length // 4), _cut(batch, length // 8)]  # few texts are as long as they may be
    return [batch]


def _cut(batch: LanguageBatch, length: int) -> LanguageBatch:
    ids, mask, labels = (item[:, :length] for item in (batch.input_ids, batch.attention_mask, batch.labels))
    return replace(batch, input_ids=ids, attention_mask=mask, labels=labels, features={})


def _content(batch: Any) -> tuple[int, int]:
    """Tokens and images."""
    return batch.input_ids.numel(), len(next(iter(batch.pixel_values.values())))
