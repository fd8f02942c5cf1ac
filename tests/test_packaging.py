"""What `pip install .` puts elsewhere works there, also beside a user's files that have our packages' names."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import world_models

PROJECT = Path(__file__).parents[1]
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "docs", "notebooks", "runs", "tests")


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder of a wheel's packages."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(PROJECT, folder / "source", ignore=LEFT_OUT)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, folder / "source"]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "packages")
    return folder / "packages"


def run_beside(installed: Path, folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a folder that has files called as packages of ours."""
    (folder / "envs.py").write_text("print('the user is here')")
    (folder / "rnn.py").write_text("raise SystemExit('this file was meant for something else')")
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)


def test_a_wheel_has_all_that_is_shipped(installed):
    for name in ("configs", "pretrained"):
        here, there = PROJECT / name, installed / "world_models" / name
        files = {
            path.relative_to(here) for path in here.rglob("*") if path.is_file() and "__pycache__" not in path.parts
        }
        assert files and files == {path.relative_to(there) for path in there.rglob("*") if path.is_file()}
    names = {path.name for path in installed.iterdir() if path.suffix != ".dist-info"}
    assert names == {"world_models", *world_models.PACKAGES}


def test_a_dream_is_dreamed_beside_a_users_files(installed, tmp_path):
    done = run_beside(
        installed,
        tmp_path,
        """
import gymnasium
env = gymnasium.make("world_models:DoomDream-v0", run="doom")
print(env.reset(seed=1)[0].shape, env.step(1)[1])
import envs
from experiment.config import load_config
print(envs.__file__, load_config("configs/doom.yaml").env.name)
""",
    )
    assert done.stdout == f"(1088,) 1.0\n{installed / 'envs' / '__init__.py'} doom\n", done.stderr
    for name in ("envs", "rnn"):
        assert f"{name} is World Models' from now on, not {tmp_path / name}.py: rename yours" in done.stderr


def test_a_users_module_that_is_in_use_is_named(installed, tmp_path):
    done = run_beside(installed, tmp_path, "import envs, world_models")
    assert (done.stdout, done.returncode) == ("the user is here\n", 1)
    said = f"ImportError: {tmp_path / 'envs.py'} was imported as envs, which World Models has a package called: rename yours"
    assert done.stderr.splitlines()[-1] == said


def test_what_is_no_environment_is_no_attribute():
    with pytest.raises(AttributeError, match="module world_models has no attribute Doom"):
        world_models.Doom  # noqa: B018
