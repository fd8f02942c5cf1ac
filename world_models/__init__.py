"""The environments, registered with Gymnasium: `gymnasium.make("world_models:DoomDream-v0", run="doom")` works in any folder.

The packages beside this one have names that a user's files may have too, such as envs or play: from here on, each of these
names means the package, whatever else Python would find first.
"""

import importlib
import sys
import warnings
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium

FOLDER = Path(__file__).resolve().parents[1]
PACKAGES = ("benchmarks", "controller", "envs", "experiment", "extract", "gallery", "nextframe", "openloop", "play", "rnn", "vae", "viz")  # fmt: skip
ENVIRONMENTS: list[tuple[str, str, str, str, dict[str, str]]] = [
    ("DoomTakeCover-v0", "envs.doom", "DoomEnv", "DoomVector", {}),
    ("CarRacing64-v0", "envs.carracing", "CarRacingEnv", "CarRacingVector", {}),
]
"""Name, the module it is in, its class there, that of many side by side, and their options."""
for world, title in (("doom", "Doom"), ("carracing", "CarRacing")):
    for kind in ("Dream", "Latent"):
        name = f"{title}{kind}-v0"
        ENVIRONMENTS.append((name, "rnn.environment", f"{kind}Env", f"{kind}VectorEnv", {"world": world}))


class Ours:
    """Finds the packages beside this one, before Python looks for others of their names."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """See importlib.abc.MetaPathFinder."""
        return PathFinder.find_spec(name, [str(FOLDER)]) if name in PACKAGES else None


def claim(name: str) -> None:
    """Say so where a name would mean something else here. Raises ImportError if that was imported already."""
    spec = find_spec(name)
    places = [spec.origin, *(spec.submodule_search_locations or [])] if spec else []
    found = next(filter(None, places), FOLDER / name)
    if Path(found).resolve().is_relative_to(FOLDER / name):
        return
    if name in sys.modules:
        raise ImportError(f"{found} was imported as {name}, which World Models has a package called: rename yours")
    warnings.warn(f"{name} is World Models' from now on, not {found}: rename yours to import it too", stacklevel=2)


def __getattr__(name: str) -> Any:
    """A class of environments: as they are registered, so that a new process imports this module before that class's."""
    for _, module, *classes, _ in ENVIRONMENTS:
        if name in classes:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")


for package in PACKAGES:
    claim(package)
sys.meta_path.insert(0, Ours)  # type: ignore[arg-type]

import experiment  # noqa: E402, F401 (before TensorFlow: it says how that is loaded)

for name, _, alone, vector, options in ENVIRONMENTS:
    gymnasium.register(
        name, entry_point=f"{__name__}:{alone}", vector_entry_point=f"{__name__}:{vector}", kwargs=options
    )
