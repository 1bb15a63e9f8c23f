"""The Prismatic family: 49 published models, one of OpenVLA's repository, and small ones.

`base` has what they share, `training` and `vision` the published experiments, `prisms` the best models, `small` what
trains on a CPU.
"""

from vla.conf.models.prismatic import prisms, small, training, vision
from vla.conf.models.prismatic.base import LAST_LAYER, PrismaticConfig, Release, VLMConfig

__all__ = ["LAST_LAYER", "PrismaticConfig", "Release", "VLMConfig", "prisms", "small", "training", "vision"]
