"""What lies on disk: checkpoints, work directories, model directories, configurations."""
