"""How LIBERO's benchmark plays an episode, as published; `docs/closed_loop.md` has the sources."""

WAIT_STEPS = 10  # objects spawn a few centimetres above their support and need half a second to come to rest
# Control steps (20 Hz) after which an episode counts as a failure, the waiting not among them.
SUITE_HORIZONS = {
    "libero_spatial": 220,
    "libero_object": 280,
    "libero_goal": 300,
    "libero_10": 520,
    "libero_90": 400,
}
