"""Image -> vector and text -> vector, behind one Protocol."""
