"""Losses between rebuilt and original features, each as a mean over a sample's values."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from vla.conf.models.anomaly_parts import CriterionConfig


def feature_mse(rebuilt: Tensor, features: Tensor) -> Tensor:
    """Mean squared error of [B, C, H, W], float32 [B]."""
    return (rebuilt.float() - features.float()).square().flatten(1).mean(dim=1)


def l1(rebuilt: Tensor, features: Tensor) -> Tensor:
    """Mean absolute error of [B, C, H, W], float32 [B]."""
    return (rebuilt.float() - features.float()).abs().flatten(1).mean(dim=1)


def cosine(rebuilt: Tensor, features: Tensor) -> Tensor:
    """1 - cosine between the channels of [B, C, H, W], mean over places, float32 [B]."""
    return 1 - nn.functional.cosine_similarity(rebuilt.float(), features.float(), dim=1).flatten(1).mean(dim=1)


CRITERIA: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"feature_mse": feature_mse, "l1": l1, "cosine": cosine}


def apply_criteria(
    criteria: Sequence[CriterionConfig], rebuilt: Tensor, features: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """
    Args:
        criteria: At least one.
        rebuilt, features: Float [B, C, H, W].

    Returns:
        Their weighted sum [B], and each by its label, without its weight and without gradient, [B].
    """
    losses = {item.label: CRITERIA[item.type](rebuilt, features) for item in criteria}
    total = sum(item.weight * losses[item.label] for item in criteria)
    assert isinstance(total, Tensor)
    return total, {name: value.detach() for name, value in losses.items()}
