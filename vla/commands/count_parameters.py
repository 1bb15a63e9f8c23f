"""Counts the parameters of every registered model on torch's meta device, for the table of `vla list models`.

    python -m vla.commands.count_parameters          # writes vla/commands/parameters.json

Takes minutes and allocates nothing. Models are built as they are registered, without adapters.
"""

import json
import sys
from typing import Any

from vla.commands.catalog import PARAMETERS
from vla.conf.models import ModelRegistry
from vla.models.materialize import get_model


def count(config: Any) -> int:
    """Parameters of a model, tied ones once."""
    return sum(parameter.numel() for parameter in get_model(config, device="meta").parameters())


def parts(config: Any) -> str:
    """What decides how many parameters a model has; models that share it are counted once."""
    named = ("vision_backbone", "llm_backbone", "arch_specifier")
    if config.system in ("Prismatic", "OpenVLA"):
        return f"{config.target} {[getattr(config, name) for name in named]}"
    return repr(config)


def main() -> int:
    """Count all that are not in the file yet, or those that the command line names; returns the exit code."""
    known = json.loads(PARAMETERS.read_text(encoding="utf-8")) if PARAMETERS.exists() else {}
    counts: dict[str, int] = {}
    for member in ModelRegistry:
        name, config = member.model_id, member.value()
        if name in sys.argv[1:] or (name not in known and len(sys.argv) == 1):
            if parts(config) not in counts:
                counts[parts(config)] = count(config)
            known[name] = counts[parts(config)]
            print(f"{name}: {known[name]:,}", flush=True)
            ordered = {item.model_id: known[item.model_id] for item in ModelRegistry if item.model_id in known}
            PARAMETERS.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
