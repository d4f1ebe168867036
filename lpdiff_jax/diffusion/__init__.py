"""The diffusion process: schedule, objective and samplers, free of any network."""
