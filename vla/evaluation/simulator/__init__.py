"""LIBERO in the loop: the simulator behind the `libero` extra, a scripted expert, and the demonstration recorder.

Importing this package loads neither MuJoCo nor torch; `LiberoEnv` loads the simulator when it is constructed.
"""
