"""The real worlds, as Gymnasium environments; importing this registers them by id."""

import world_models  # noqa: F401
