"""ResShift: a short chain from the low-resolution picture to the plate, in pixels or in latents."""
