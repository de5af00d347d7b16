"""Index pictures with a run, then find them by sentence, by picture, or by both."""
