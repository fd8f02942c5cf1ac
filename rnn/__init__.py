"""M: an LSTM with a mixture-density output, its training, and the dream; importing this registers its environments by id."""

import os
import sys

import world_models  # noqa: F401

LOST: set[str] = set()
"""Libraries that are of no use in this process, since it was forked from one that had loaded them: their threads are gone."""
os.register_at_fork(after_in_child=lambda: LOST.update({"tensorflow"} & sys.modules.keys()))
