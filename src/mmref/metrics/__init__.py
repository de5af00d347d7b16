"""Ranks, averages and intervals: pure functions on arrays."""
