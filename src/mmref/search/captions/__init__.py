"""Captions in a store: listing, encoding, writing, and where they are kept."""
