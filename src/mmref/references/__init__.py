"""The method: references, how they are learnt, and the refinement through them."""
