"""Several processes that train or evaluate together: who is who, what they share, how they end."""
