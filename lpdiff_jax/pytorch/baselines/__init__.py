"""The compared systems' PyTorch checkpoints: one module a system, and what they share."""
