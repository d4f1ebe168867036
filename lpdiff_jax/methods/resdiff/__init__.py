"""ResDiff: a CNN trained with losses of its frequencies, then a guided diffusion of the rest."""
