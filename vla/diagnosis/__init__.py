"""What works on this machine and what doesn't: the checks of `vla doctor`, each of which gives findings."""
