"""A model on a data set -> a report."""
