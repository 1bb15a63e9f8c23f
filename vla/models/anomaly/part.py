"""What every part of an anomaly detector's net is."""

from torch import nn


class Part(nn.Module):
    """
    Base of parts. The class that a part's configuration names as its `target` is called with an `EasyDict` of the
    configuration's fields and

    - `input_size`: height and width of the pictures;
    - `inplanes`, `instrides`: channels and strides of the maps that it takes (all parts but the first);
    - `weights`: local file or Hugging Face id to start from, or None (the first part).

    Attributes:
        outplanes, outstrides: Channels and strides of the maps that it gives, an entry for each.
    """

    outplanes: list[int]
    outstrides: list[int]

    def fsdp_units(self) -> list[nn.Module]:
        """Modules that FSDP shards one by one, in the order in which they run."""
        return []

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Recompute activations of the large blocks in the backward pass, where there are any."""
