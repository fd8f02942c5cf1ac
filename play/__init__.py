"""The browser player: drive in a model's dream or prediction, or in the real game with what the model makes of it beside it."""

import experiment  # noqa: F401 (before TensorFlow: it says how that is loaded)
