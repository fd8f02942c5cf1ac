"""The browser player: drive in a model's dream or prediction, or in the real game with what the model makes of it beside it."""
