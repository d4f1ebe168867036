"""Pure Flax (linen) modules: the condition network and the denoiser."""
