"""Golden cases and the reduced models that they were recorded with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vla.models.vggt import VGGT, VGGTSpec

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "vggt"

DEV_SPEC = VGGTSpec(
    img_size=56,
    embed_dim=32,
    depth=4,
    num_heads=2,
    dino_depth=2,
    dino_num_heads=2,
    camera_trunk_depth=3,
    camera_num_heads=4,
    dpt_features=16,
    dpt_out_channels=(8, 12, 16, 16),
    dpt_layers=(0, 1, 2, 3),
    track_features=32,
    track_corr_levels=3,
    track_corr_radius=2,
    track_hidden_size=32,
)

CONV_SPEC = VGGTSpec(
    img_size=56,
    embed_dim=32,
    depth=2,
    num_heads=2,
    patch_embed="conv",
    enable_camera=False,
    enable_depth=False,
    enable_point=False,
    enable_track=False,
)

AssertClose = Callable[[Tensor, Tensor, float], None]


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Folder of the golden files."""
    return GOLDEN


@pytest.fixture(scope="session")
def dev_spec() -> VGGTSpec:
    """Sizes of the reduced model of the golden cases."""
    return DEV_SPEC


@pytest.fixture(scope="session")
def conv_spec() -> VGGTSpec:
    """Sizes of the reduced trunk with the convolutional patch embedding."""
    return CONV_SPEC


@pytest.fixture(scope="session")
def dev() -> dict[str, Tensor]:
    """The reduced model's weights, inputs and outputs."""
    return load_file(GOLDEN / "vggt_dev.safetensors")


@pytest.fixture(scope="session")
def dev_conv() -> dict[str, Tensor]:
    """The same for the trunk with the convolutional patch embedding."""
    return load_file(GOLDEN / "vggt_dev_conv.safetensors")


@pytest.fixture(scope="session")
def dev_track() -> dict[str, Tensor]:
    """The same for the tracking head."""
    return load_file(GOLDEN / "vggt_dev_track.safetensors")


@pytest.fixture(scope="session")
def dev_weights(dev: dict[str, Tensor], dev_track: dict[str, Tensor]) -> dict[str, Tensor]:
    """All weights of the reduced model under their published names."""
    prefix = "state_dict."
    return {key.removeprefix(prefix): x for key, x in {**dev, **dev_track}.items() if key.startswith(prefix)}


@pytest.fixture
def model(dev_weights: dict[str, Tensor]) -> VGGT:
    """The reduced model with its recorded weights."""
    model = VGGT(DEV_SPEC).eval()
    model.load_state_dict(dev_weights, strict=True)
    return model


@pytest.fixture(scope="session")
def assert_close() -> AssertClose:
    """Equal shapes, and no element further apart than an absolute tolerance."""

    def check(actual: Tensor, expected: Tensor, atol: float) -> None:
        assert actual.shape == expected.shape
        torch.testing.assert_close(actual, expected, atol=atol, rtol=0.0)

    return check
