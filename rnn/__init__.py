"""M: an LSTM with a mixture-density output, its training, and the dream; importing this registers the dream by id."""

import gymnasium

gymnasium.register(
    "DoomDream-v0", entry_point="rnn.environment:DreamEnv", vector_entry_point="rnn.environment:DreamVectorEnv"
)
