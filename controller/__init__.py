"""C: the linear controller, its evolution in the dream, and its evaluation in the real game."""
