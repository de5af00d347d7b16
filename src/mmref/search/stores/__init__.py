"""Stores: one Protocol in ``base``, one file per kind."""
