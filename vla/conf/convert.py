"""Checkpoints written in the layout that a published code base reads, and adapters added to what they adapt."""

from dataclasses import dataclass
from pathlib import Path

from vla.conf.checks import require, require_choice


@dataclass(frozen=True)
class ExportConfig:
    """Write the weights of `checkpoint` as the code base that its model was published with reads them."""

    checkpoint: Path | None = None  # a run folder (its best checkpoint) or a checkpoint folder
    output: Path | None = None  # folder to write
    precision: str = "fp32"  # fp32 | bf16 | fp16: of the tensors
    groups: tuple[str, ...] = ()  # module groups to write; none: all

    def __post_init__(self) -> None:
        require("checkpoint", self.checkpoint is not None, "must name a run or checkpoint folder", self.checkpoint)
        require("output", self.output is not None, "must name a folder to write", self.output)
        require_choice(self, "precision", ("fp32", "bf16", "fp16"))


@dataclass(frozen=True)
class MergeConfig:
    """Add LoRA adapters in peft's layout to the Hugging Face folder that they were trained on, tensor by tensor."""

    base: Path | None = None  # folder with config.json and *.safetensors
    adapter: Path | None = None  # folder with adapter_config.json and adapter_model.safetensors
    output: Path | None = None  # folder to write

    def __post_init__(self) -> None:
        for name in ("base", "adapter", "output"):
            require(name, getattr(self, name) is not None, "must name a folder", getattr(self, name))
