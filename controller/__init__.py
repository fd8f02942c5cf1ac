"""C: the linear controller, its evolution in the dream, and its evaluation in the real game."""

import experiment  # noqa: F401 (before TensorFlow: it says how that is loaded)
