"""Files of PyTorch programs, read and written without PyTorch."""
