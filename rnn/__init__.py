"""M: an LSTM with a mixture-density output, its training, and the dream; importing this registers the dream by id."""

import os
import sys

import gymnasium

import experiment  # noqa: F401 (before TensorFlow: it says how that computes)

LOST: set[str] = set()
"""Libraries that are of no use in this process, since it was forked from one that had loaded them: their threads are gone."""
os.register_at_fork(after_in_child=lambda: LOST.update({"tensorflow"} & sys.modules.keys()))

for name, world in (("DoomDream-v0", "doom"), ("CarRacingDream-v0", "carracing")):
    one, many = "rnn.environment:DreamEnv", "rnn.environment:DreamVectorEnv"
    gymnasium.register(name, entry_point=one, vector_entry_point=many, kwargs={"world": world})
