"""`vla serve`: a policy behind a network address (scripts/serve.py)."""

from vla.commands.program import Action
from vla.conf.serving import ServeConfig
from vla.overwatch import limit_busy_waiting


def serve(config: ServeConfig) -> int:
    """Serve until it is told to stop; returns the exit code."""
    limit_busy_waiting()
    from vla.serving.policy_server.server import run  # imports torch, which --help does without

    return run(config)


PROGRAM = Action(ServeConfig, serve)
