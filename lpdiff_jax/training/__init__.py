"""Training: state, step, loop, checkpoints, and the one module that knows of devices."""
