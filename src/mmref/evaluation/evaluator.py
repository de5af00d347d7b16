"""A model on a data set -> a report."""

from mmref.evaluation.vectors import evaluate_vectors

__all__ = ["evaluate_vectors"]
