"""Configuration: frozen dataclasses in registries, parsed by draccus. A leaf: imports no torch and nothing of `vla`."""
