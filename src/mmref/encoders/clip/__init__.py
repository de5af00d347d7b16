"""``clip``: CLIP, SigLIP and fixed-resolution SigLIP 2 checkpoints as encoders."""
