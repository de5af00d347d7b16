"""Training: the loop, its checkpoints, and every choice made on validation objects."""
