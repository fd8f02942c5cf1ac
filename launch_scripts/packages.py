"""What setup.bash leaves to the Python of .venv, in which there is nothing yet but pip.

python -I packages.py pip ARGUMENT...   becomes pip, which obeys only those of the user's settings that it should
python -I packages.py check EXTRA...    imports what the project needs, with these extras; says what cannot be imported
"""

import importlib
import os
import sys
from collections.abc import Iterator
from importlib import metadata

NAME = "world-models"
KEPT = """index-url pypi-url extra-index-url no-index find-links trusted-host proxy cert client-cert keyring-provider
    use-feature use-deprecated timeout default-timeout retries resume-retries cache-dir no-cache-dir progress-bar
    no-color"""
"""pip's settings for where packages come from, and how. All others could lead out of .venv, or leave something out:
user, target, prefix, root, python, dry-run, no-deps, constraint, require-hashes..."""
OTHERS = ("PIP_", "SETUPTOOLS_", "DISTUTILS_", "DIST_EXTRA_CONFIG", "SOURCE_DATE_EPOCH")
"""How the names of variables begin that pip, or what builds the project for it, would obey."""


def pip_environment() -> dict[str, str]:
    """The environment in which pip obeys the user's variables and pip.conf files as far as they are KEPT."""
    from pip._internal.configuration import Configuration  # `pip config list` leaves files out where one says user=true
    from pip._internal.exceptions import ConfigurationError

    configuration, said = Configuration(isolated=False), {}
    try:
        configuration.load()
    except ConfigurationError as error:
        sys.exit(f"error: pip's settings: {' '.join(str(error).split())}")
    for key, value in configuration.items():  # from pip 25 on, by file
        said.update(value if isinstance(value, dict) else {key: value})
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OTHERS)}
    for name in KEPT.split():
        variable = "PIP_" + name.upper().replace("-", "_")
        value = said.get(f"install.{name}") or said.get(f"global.{name}")
        if os.environ.get(variable):
            clean[variable] = os.environ[variable]
        elif value:
            clean[variable] = value.strip().replace("\n", " ")
    return clean | {"PIP_CONFIG_FILE": os.devnull}


def modules(extras: list[str]) -> Iterator[str]:
    """The modules of the project, and of the packages that it and its extras name in pyproject.toml."""
    from pip._vendor.packaging.requirements import Requirement
    from pip._vendor.packaging.utils import canonicalize_name

    provided: dict[str, list[str]] = {}
    for module, names in metadata.packages_distributions().items():
        for name in names:
            provided.setdefault(canonicalize_name(name), []).append(module)
    wanted = [canonicalize_name(NAME)]
    for requirement in map(Requirement, metadata.requires(NAME) or []):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ["", *extras]):
            wanted.append(canonicalize_name(requirement.name))
    for package in wanted:
        module = package.replace("-", "_")
        found = provided.get(package, [])
        yield from [module] if module in found or not found else found


def check(extras: list[str]) -> None:
    """Import each of the modules. The last line is the one that cannot be imported, also where that kills Python."""
    module = NAME
    try:
        for module in modules(extras):
            print(module, flush=True)
            importlib.import_module(module)
    except Exception as error:
        print(f"{module} ({type(error).__name__}: {' '.join(str(error).split())})")
        sys.exit(1)


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "pip":
        os.execve(sys.executable, [sys.executable, "-I", "-m", "pip", *arguments], pip_environment())
    check(arguments)
