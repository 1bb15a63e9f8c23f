"""A policy behind a port: HTTP as OpenVLA's clients speak it, a WebSocket as openpi's do, and a page to look at."""
