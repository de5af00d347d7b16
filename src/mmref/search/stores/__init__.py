"""Where vectors are kept, behind one Protocol."""
