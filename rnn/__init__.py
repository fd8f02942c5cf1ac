"""M: an LSTM with a mixture-density output, its training, and the dream; importing this registers the dream by id."""

import gymnasium

for name in ("DoomDream-v0", "CarRacingDream-v0"):  # the run says which world it is a dream of
    gymnasium.register(
        name, entry_point="rnn.environment:DreamEnv", vector_entry_point="rnn.environment:DreamVectorEnv"
    )
