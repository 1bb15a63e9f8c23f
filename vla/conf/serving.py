"""`ServeConfig`: how a policy is served to robots and simulators."""

from dataclasses import dataclass
from pathlib import Path

from vla.conf.checks import require, require_choice, require_nonnegative, require_positive

POLICIES = ("checkpoint", "zero", "random")


@dataclass(frozen=True)
class ServeConfig:
    """Serve the policy of `checkpoint` over HTTP and WebSocket, which is an extra: pip install '.[serve]'."""

    checkpoint: Path | None = None  # a run folder (its best checkpoint), a checkpoint, or a folder in OpenVLA's layout
    policy: str = "checkpoint"  # checkpoint | zero | random (the last two need none: for trying out a client)
    unnorm_key: str | None = None  # OpenVLA's layout: dataset whose statistics its actions are in
    host: str = "127.0.0.1"  # 0.0.0.0 for clients on other machines; then set a token, too
    port: int = 8000  # 0: any that is free
    device: str = "auto"  # auto (CUDA when there is any) | cpu | cuda
    max_batch: int | None = None  # observations predicted together; none: 1 on a CPU (bits depend on no other), else 16
    batch_wait_ms: float = 2.0  # for company, where more than one can be predicted together
    max_queue: int = 64  # observations that may wait; further ones are refused with status 503
    max_connections: int = 256  # at once
    max_request_mb: float = 16.0  # MiB of a request
    images: str = "seen"  # what clients send: seen (turned as the model sees them) | stored (as in the training files)
    gripper: str = "signed"  # what clients get: signed (-1 opens, +1 closes) | unit (1 opens, 0 closes, as OpenVLA)
    override_contract: tuple[str, ...] = ()  # fields of the contract (dotted names) that clients may state otherwise
    execute_steps: int | None = None  # sessions: actions of a chunk before the next is predicted; none: all, at most 8
    token_file: Path | None = None  # its first line is asked of clients; none: VLA_SERVE_TOKEN, and without it nothing
    watcher: Path | None = None  # a run of an anomaly detector that scores what the first camera sees
    grace_seconds: float = 30.0  # to finish what is queued when it is told to stop

    def __post_init__(self) -> None:
        require_choice(self, "policy", POLICIES)
        given = self.checkpoint is not None
        rule = "must name a run or checkpoint folder, or --policy zero or random"
        require("checkpoint", given or self.policy != "checkpoint", rule, self.checkpoint)
        require("port", 0 <= self.port < 65536, "must be within [0, 65535]", self.port)
        require_choice(self, "device", ("auto", "cpu", "cuda"))
        require_choice(self, "images", ("seen", "stored"))
        require_choice(self, "gripper", ("signed", "unit"))
        require_positive(self, "max_batch", "max_queue", "max_connections", "max_request_mb", "execute_steps")
        require_nonnegative(self, "batch_wait_ms", "grace_seconds")
