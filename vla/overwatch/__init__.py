"""Logging that knows its rank, and the process group. A leaf: imports no torch and nothing of `vla` but its errors."""

from vla.overwatch.launch import limit_busy_waiting
from vla.overwatch.overwatch import Overwatch, get_console, initialize_overwatch, log_to_file

__all__ = ["Overwatch", "get_console", "initialize_overwatch", "limit_busy_waiting", "log_to_file"]
