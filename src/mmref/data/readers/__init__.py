"""One file per data set format, behind one Protocol and a small registry."""
