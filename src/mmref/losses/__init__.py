"""Losses: pure functions on tensors, one file each."""
