"""A run and a collection -> a store -> answers."""
