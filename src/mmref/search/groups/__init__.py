"""Gallery references: images known to show one object share a vector and a profile."""
