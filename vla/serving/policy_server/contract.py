"""What a served policy promises: a checkpoint's contract, and how clients' observations and actions relate to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import vla
from vla.conf.errors import one_line
from vla.conf.models.base import ProcessorConfig
from vla.conf.serving import ServeConfig
from vla.data.conventions import LIBERO_CONVENTIONS, flips
from vla.data.dataset_statistics import parse_dataset_statistics
from vla.errors import UserError
from vla.models.weights.openvla import is_openvla_folder, open_openvla
from vla.serving.policy import ActingPolicy, Policy

GRIPPERS = {"signed": "-1 opens, +1 closes", "unit": "1 opens, 0 closes"}
_SHOWN = 5  # differences in one line
_ANY: tuple[str, ...] = ()  # names
_PROPRIO = 8  # dimensions of the robot's state, see `PolicyInput`


class ContractError(UserError):
    """A client means something else than the checkpoint."""


@dataclass(frozen=True)
class Served:
    """
    What a server tells and takes.

    Attributes:
        policy: its name.
        fingerprint: differs between any two policies that may act differently.
        contract: the checkpoint's, see `Processor.contract`; without a checkpoint, LIBERO's conventions.
        unnorm_keys: names of the training data that a client may give; empty: any.
        images: seen | stored, see `ServeConfig`.
        gripper: signed | unit, see `ServeConfig`.
        may_differ: dotted names of what clients may mean otherwise.
        max_request_bytes: of one message.
    """

    policy: str
    fingerprint: str
    contract: dict[str, Any]
    unnorm_keys: tuple[str, ...] = ()
    images: str = "seen"
    gripper: str = "signed"
    max_request_bytes: int = 2**24
    may_differ: tuple[str, ...] = ()

    @classmethod
    def of(cls, policy: ActingPolicy, config: ServeConfig) -> Served:
        """What `policy` promises, served as `config` says."""
        size = int(config.max_request_mb * 2**20)
        contract, keys = _baseline_contract(policy.chunk_size), _ANY
        if isinstance(policy, Policy):
            contract, keys = policy.processor.contract(), _unnorm_keys(policy, config.unnorm_key)
        turns, differ = (config.images, config.gripper), config.override_contract
        return cls(policy.name, policy.fingerprint, contract, keys, *turns, size, differ)

    @property
    def cameras(self) -> tuple[str, ...]:
        """In the policy's order."""
        return tuple(self.contract["config"]["cameras"])

    @property
    def num_frames(self) -> int:
        """Of each camera, the newest last."""
        return int(self.contract["config"]["num_frames"])

    @property
    def proprio_dim(self) -> int | None:
        """Dimensions of the robot's state; None: it isn't looked at."""
        return _PROPRIO if self.contract["config"]["proprio"] else None

    def metadata(self) -> dict[str, Any]:
        """What a client is told when it connects."""
        conventions = self.contract["conventions"]
        return {
            "server": "vla", "version": vla.__version__, "policy": self.policy, "fingerprint": self.fingerprint,
            "chunk_size": self.contract["chunk_size"], "action_names": list(conventions["action_names"]),
            "control_hz": conventions["control_hz"], "cameras": list(self.cameras), "num_frames": self.num_frames,
            "frame_stride": self.contract["config"]["frame_stride"], "proprio_dim": self.proprio_dim,
            "images": self.images, "gripper": self.gripper, "gripper_means": GRIPPERS[self.gripper],
            "unnorm_keys": list(self.unnorm_keys), "max_request_bytes": self.max_request_bytes,
            "contract": self.contract,
        }  # fmt: skip

    def check(self, stated: Any) -> None:
        """
        Compare what a client states with what is served.

        Args:
            stated: any part of `contract`, nested as it is, and of `images` and `gripper`.

        Raises:
            ContractError: one line with what differs.
        """
        if not isinstance(stated, Mapping):
            raise ContractError(f"contract: must be an object, got {type(stated).__name__}")
        everything = self.contract | {"images": self.images, "gripper": self.gripper}
        found = [text for name, text in differences(stated, everything) if name not in self.may_differ]
        if found:
            more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            raise ContractError(f"contract: {'; '.join(found[:_SHOWN])}{more}")

    def flip(self, images: np.ndarray) -> np.ndarray:
        """Images [..., H, W, 3] as clients send them to stored ones, or back."""
        return self._turned(images, "raw" if self.images == "stored" else self.contract["config"]["orientation"])

    def upright(self, images: np.ndarray) -> np.ndarray:
        """Stored images [..., H, W, 3] the way people see the scene."""
        return self._turned(images, "upright")

    def _turned(self, images: np.ndarray, orientation: str) -> np.ndarray:
        rows, columns = flips(self.contract["conventions"]["camera_orientation"], orientation)
        images = images[..., ::-1, :, :] if rows else images
        return images[..., ::-1, :] if columns else images

    def actions(self, actions: np.ndarray) -> np.ndarray:
        """Actions [..., A] of the policy, the gripper -1 for open, as clients get them."""
        if self.gripper == "unit":
            actions = actions.copy()
            actions[..., -1] = (1.0 - actions[..., -1]) / 2.0
        return actions

    @property
    def bottom_up(self) -> bool:
        """Rows of stored images go from the lowest one up."""
        return bool(self.contract["conventions"]["camera_orientation"] == "bottom_up")


def differences(
    stated: Mapping[Any, Any], served: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, str]]:  # fmt: skip
    """What `stated` has otherwise than `served`: the field's dotted name, and the difference in words."""
    for key, theirs in stated.items():
        name = f"{prefix}{one_line(key)[:60]}"
        if key not in served:
            yield name, f"{name} is not known here"
            continue
        ours = served[key]
        if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
            yield from differences(theirs, ours, f"{name}.")
        elif _plain(theirs) != _plain(ours):
            yield name, f"{name} is {_short(ours)} here, {_short(theirs)} in the client"


def _plain(value: Any) -> Any:
    """As it comes out of JSON."""
    value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _short(value: Any) -> str:
    text = one_line(repr(_plain(value)))
    return text if len(text) <= 80 else f"{text[:77]}..."


def _unnorm_keys(policy: Policy, given: str | None) -> tuple[str, ...]:
    """Names of the data behind a policy's statistics."""
    checkpoint = policy.checkpoint
    if checkpoint is not None and is_openvla_folder(checkpoint):
        name = parse_dataset_statistics(open_openvla(checkpoint).statistics, given, str(checkpoint)).name
        return tuple(dict.fromkeys(key for key in (name, given) if key))
    name = type(policy.config.dataset).dataset_id
    return tuple(dict.fromkeys((name, name.replace("-", "_"))))


def _baseline_contract(chunk_size: int) -> dict[str, Any]:
    """Of a policy that looks at nothing: LIBERO's conventions, one camera."""
    config = asdict(ProcessorConfig(cameras=("agentview",), normalization="none"))
    conventions = LIBERO_CONVENTIONS.to_dict()
    return {
        "config": config, "chunk_size": chunk_size, "conventions": conventions, "model_gripper": "-1 open, +1 closed",
    }  # fmt: skip
