"""Real-ESRGAN: a generator trained on pixels first, then against features and a discriminator."""
