"""The real worlds, as Gymnasium environments; importing this registers them by id."""

import gymnasium

gymnasium.register("DoomTakeCover-v0", entry_point="envs.doom:DoomEnv", vector_entry_point="envs.doom:DoomVector")
gymnasium.register(
    "CarRacing64-v0", entry_point="envs.carracing:CarRacingEnv", vector_entry_point="envs.carracing:CarRacingVector"
)
