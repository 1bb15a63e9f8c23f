"""`vla data doctor`: what is in a folder of demonstrations, found by looking, and what to do about it."""
