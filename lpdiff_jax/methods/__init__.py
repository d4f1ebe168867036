"""What a system is: its networks, its estimate and draws, its stages of training."""
