"""M: an LSTM with a mixture-density output, its training, and the dream; importing this registers its environments by id."""

import os
import sys

import gymnasium

import experiment  # noqa: F401 (before TensorFlow: it says how that is loaded)

LOST: set[str] = set()
"""Libraries that are of no use in this process, since it was forked from one that had loaded them: their threads are gone."""
os.register_at_fork(after_in_child=lambda: LOST.update({"tensorflow"} & sys.modules.keys()))

for world, name in (("doom", "Doom"), ("carracing", "CarRacing")):
    for kind in ("Dream", "Latent"):
        gymnasium.register(
            f"{name}{kind}-v0",
            entry_point=f"rnn.environment:{kind}Env",
            vector_entry_point=f"rnn.environment:{kind}VectorEnv",
            kwargs={"world": world},
        )
