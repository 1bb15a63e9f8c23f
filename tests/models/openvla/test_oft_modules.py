"""Modules of OpenVLA-OFT against the published ones, with their weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vla.models.components.ddim import DDIM
from vla.models.components.film import add_film, film_patches
from vla.models.components.oft_modules import MLPResNet, TwoLayerMLP, timestep_code
from vla.torchvision_shim import prepare_torchvision

prepare_torchvision()

TOLERANCE = {"rtol": 0.0, "atol": 1e-6}


@pytest.fixture(scope="module")
def stored(golden_folder: Path) -> dict[str, Tensor]:
    return load_file(golden_folder / "oft_modules.safetensors")


def weights(stored: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in stored.items() if name.startswith(prefix)}


def make_tower(name: str, **options: int) -> Any:
    """A small vision transformer of timm's with FiLM."""
    import timm

    tower: Any = timm.create_model(name, num_classes=0, img_size=28, depth=3, mlp_ratio=2, **options)
    add_film(tower, 16)
    return tower


def test_l1_head(stored: dict[str, Tensor]) -> None:
    head = MLPResNet(2, 7 * 16, 24, 7)
    head.load_state_dict(weights(stored, "dev.w.action_head.model."))
    found = head(stored["dev.in.hidden"].view(3, 8, 7 * 16))
    torch.testing.assert_close(found, stored["dev.out.actions"], **TOLERANCE)


@pytest.mark.parametrize(("name", "input_dim", "key"), [
    ("proprio_projector", 8, "proprio"), ("noisy_action_projector", 1, "noisy"),
])  # fmt: skip
def test_projectors(stored: dict[str, Tensor], name: str, input_dim: int, key: str) -> None:
    projector = TwoLayerMLP(input_dim, 16)
    projector.load_state_dict(weights(stored, f"dev.w.{name}."))
    torch.testing.assert_close(projector(stored[f"dev.in.{key}"]), stored[f"dev.out.{key}"], **TOLERANCE)


def test_timestep_code(stored: dict[str, Tensor]) -> None:
    found = timestep_code(stored["dev.in.t"], stored["dev.out.time"].shape[1])
    torch.testing.assert_close(found, stored["dev.out.time"], **TOLERANCE)


def test_film(stored: dict[str, Tensor]) -> None:
    """Two images of two towers each; the language's mean modulates both towers."""
    towers = []
    for module, name, options in (
        ("featurizer", "vit_large_patch14_reg4_dinov2.lvd142m", {"embed_dim": 24, "num_heads": 2}),
        ("fused_featurizer", "vit_so400m_patch14_siglip_224", {"embed_dim": 32, "num_heads": 4}),
    ):
        tower = make_tower(name, **options)
        tower.load_state_dict(weights(stored, f"dev.w.film.vision_backbone.{module}."))
        towers.append(tower.eval())
    condition = stored["dev.in.film_lang"].mean(dim=1)
    pixels = stored["dev.in.film_pixels"].unflatten(1, (2, 2, 3))
    images = [
        torch.cat([film_patches(tower, pixels[:, i, t], condition) for t, tower in enumerate(towers)], dim=-1)
        for i in range(2)
    ]
    torch.testing.assert_close(torch.cat(images, dim=1), stored["dev.out.film"], rtol=0.0, atol=2e-6)


def test_film_recomputes_in_the_backward_pass() -> None:
    tower = make_tower("vit_so400m_patch14_siglip_224", embed_dim=32, num_heads=4)
    images, condition = torch.randn(2, 3, 28, 28), torch.randn(2, 16, requires_grad=True)
    gradients = []
    for enabled in (False, True):
        tower.train().set_grad_checkpointing(enabled)
        gradients.append(torch.autograd.grad(film_patches(tower, images, condition).sum(), condition)[0])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_ddim_is_diffusers(golden: Callable[[str], Any]) -> None:
    case = golden("ddim")
    ddim = DDIM(50)
    torch.testing.assert_close(ddim.kept, torch.tensor(case["alphas_cumprod"]), rtol=0, atol=1e-6)
    added = {name: torch.tensor(value) for name, value in case["add_noise"].items()}
    noisy = ddim.add_noise(added["actions"], added["noise"], added["timesteps"])
    torch.testing.assert_close(noisy, added["noisy"], **TOLERANCE)
    for sampling in case["sampling"]:
        steps = sampling["num_inference_steps"]
        assert ddim.timesteps(steps) == sampling["timesteps"]
        values = torch.tensor(sampling["start"])
        for timestep, noise, expected in zip(
            sampling["timesteps"], sampling["noise_predictions"], sampling["samples"], strict=True
        ):
            values = ddim.step(torch.tensor(noise), timestep, values, steps)
            torch.testing.assert_close(values, torch.tensor(expected), rtol=0, atol=1e-5)


def test_too_many_steps() -> None:
    with pytest.raises(ValueError, match=r"num_inference_steps: must be in \[1, 50\], got 51"):
        DDIM(50).timesteps(51)
