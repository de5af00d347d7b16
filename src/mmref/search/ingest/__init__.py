"""Pictures into stores: listing, reading, encoding, writing; re-encoding for another run."""
