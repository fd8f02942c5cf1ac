"""The real worlds, as Gymnasium environments; importing this registers them by id."""

import gymnasium

for name, file, alone, vector in (
    ("DoomTakeCover-v0", "doom", "DoomEnv", "DoomVector"),
    ("CarRacing64-v0", "carracing", "CarRacingEnv", "CarRacingOwnVector"),  # Gymnasium's own simulator
    ("CarRacingPool64-v0", "carracing", "CarRacingPoolEnv", "CarRacingVector"),  # EnvPool's: other tracks
):
    gymnasium.register(name, entry_point=f"envs.{file}:{alone}", vector_entry_point=f"envs.{file}:{vector}")
