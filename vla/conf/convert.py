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
class ImportConfig:
    """Write a published model as a checkpoint folder, to evaluate, serve and train further like one of a run.

    VGGT alone is no policy: its file becomes `model.safetensors` with every tensor checked, for --model.vggt.weights.
    """

    input: Path | None = None  # Prismatic's run folder or `.pt`, OpenVLA's or nanoVLM's folder, VGGT's file
    output: Path | None = None  # folder to write
    tokenizer: str | None = None  # language models: folder or Hugging Face id; none: of what they were made from
    unnorm_key: str | None = None  # OpenVLA: the dataset whose statistics actions are in; none: the only one

    def __post_init__(self) -> None:
        require("input", self.input is not None, "must name a published folder", self.input)
        require("output", self.output is not None, "must name a folder to write", self.output)


@dataclass(frozen=True)
class CardConfig:
    """Write a model card for the Hugging Face hub: contract, data and measured results of a run."""

    checkpoint: Path | None = None  # a run folder (its best checkpoint) or a checkpoint folder
    output: Path | None = None  # file to write; none: README.md in the run's folder
    license: str | None = None  # id of the licence that you publish the weights under, such as mit; none: not stated
    repo: str | None = None  # "owner/name" that the card names in its examples; none: the run's name

    def __post_init__(self) -> None:
        require("checkpoint", self.checkpoint is not None, "must name a run or checkpoint folder", self.checkpoint)


@dataclass(frozen=True)
class PushConfig:
    """Upload a checkpoint with its model card to the Hugging Face hub."""

    checkpoint: Path | None = None  # a run folder (its best checkpoint) or a checkpoint folder
    repo: str | None = None  # "owner/name" on the hub; is made if need be
    private: bool = False  # whether a new repository is private
    license: str | None = None  # id of the licence that you publish the weights under, such as mit; none: not stated
    layout: str = "vla"  # vla (what vla evaluate, serve and train read) | published (as `vla convert export` writes it)
    precision: str = "fp32"  # fp32 | bf16 | fp16: of the tensors, in the published layout

    def __post_init__(self) -> None:
        require("checkpoint", self.checkpoint is not None, "must name a run or checkpoint folder", self.checkpoint)
        require("repo", self.repo is not None, 'must be a name on the hub, "owner/name"', self.repo)
        require_choice(self, "layout", ("vla", "published"))
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
