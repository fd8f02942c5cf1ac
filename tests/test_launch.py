"""The launch scripts, as far as they can be tried without installing anything: on a copy with a stand-in for pip."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "launch_scripts"
EXPERIMENTS = {"wm_doom.bash": "doom", "carracing.bash": "carracing"}

every_experiment = pytest.mark.parametrize("script, name", EXPERIMENTS.items(), ids=EXPERIMENTS.values())


def bash(*arguments, cwd, **environment):
    command = ["bash", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=os.environ | environment, timeout=60)


@pytest.mark.parametrize("script", sorted([*SCRIPTS.glob("*.bash"), ROOT / ".ci" / "run"]), ids=lambda path: path.name)
def test_syntax(script):
    assert bash("-n", script, cwd=ROOT).returncode == 0


@every_experiment
def test_help_needs_no_installation(script, name, tmp_path):
    shutil.copytree(SCRIPTS, tmp_path / "launch_scripts")
    done = bash(f"launch_scripts/{script}", "--help", cwd=tmp_path)
    assert done.returncode == 0 and not done.stderr
    assert done.stdout.startswith(
        f"usage: bash launch_scripts/{script} [quick|laptop|paper] [--run DIR] [key=value ...]"
    )
    for said in ("key=value", f"runs/{name}-quick", f"configs/{name}.yaml", "EXTRAS=", "PYTHON="):
        assert said in done.stdout
    assert not any(f"runs/{other}" in done.stdout for other in EXPERIMENTS.values() if other != name)
    assert not (tmp_path / ".venv").exists()


def assert_mistake(done, said):
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and said in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("script", EXPERIMENTS)
@pytest.mark.parametrize(
    "arguments, said",
    [(["swift"], "'swift'"), (["--run"], "--run"), (["--fast"], "'--fast'"), (["quick", "paper"], "two presets")],
)
def test_mistakes_are_one_line(script, arguments, said, tmp_path):
    assert_mistake(bash(SCRIPTS / script, *arguments, cwd=tmp_path), said)


def test_the_shared_part_does_nothing_alone(tmp_path):
    assert_mistake(bash(SCRIPTS / "experiment.bash", "quick", cwd=tmp_path), "run one of them")


@pytest.fixture
def project(tmp_path):
    """A project whose `python` makes a stand-in environment: its pip notes what it is asked for."""
    folder = tmp_path / "project"
    shutil.copytree(SCRIPTS, folder / "launch_scripts")
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    python = tmp_path / "python"
    python.write_text(f"""#!/usr/bin/env bash
case "$*" in
    "-m venv --clear .venv") echo venv >>log; rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
    "-I launch_scripts/packages.py pip install"*) echo "pip $*" >>log; sleep "${{PIP_SECONDS:-0}}"; exit "${{PIP_EXIT:-0}}" ;;
    "-I launch_scripts/packages.py check"*) echo "numpy"; echo "cv2 (ImportError: no libGL)"; exit "${{CHECK_EXIT:-0}}" ;;
    "-m experiment"* | "-m nextframe"*) echo "$*" ;;
    "-c import pip") ;;
    *) exec {sys.executable} "$@" ;;
esac
""")
    python.chmod(0o755)
    return folder


def log(project):
    path = project / "log"
    return path.read_text().splitlines() if path.exists() else []


def setup(project, extras="", **environment):
    python = str(project.parent / "python")
    return bash("launch_scripts/setup.bash", extras, cwd=project, **{"PYTHON": python} | environment)


def test_setup_installs_once(project):
    assert setup(project, "dev").returncode == 0
    assert [line.split()[0] for line in log(project)] == ["venv", "pip"]
    assert log(project)[1].endswith("-c constraints.txt -e .[dev]")
    assert setup(project, "dev").returncode == 0
    assert setup(project).returncode == 0  # no extras: a part of what is there
    assert len(log(project)) == 2
    assert setup(project, "ray,notebooks").returncode == 0
    assert log(project)[2].endswith("-e .[ray,notebooks]")
    (project / "constraints.txt").write_text("numpy==2.4.6\n")
    assert setup(project).returncode == 0
    assert len(log(project)) == 4


def installations(project):
    """What pip was asked for, one after the other: '.' or '.[extras]'."""
    return [line.split()[-1] for line in log(project) if line.startswith("pip")]


def test_extras_are_added_one_after_the_other(project):
    for extras in ("play", "notebooks", "play", "", "notebooks,play"):
        assert setup(project, extras).returncode == 0
    assert installations(project) == [".[play]", ".[notebooks]"]
    (project / "constraints.txt").write_text("numpy==2.4.6\n")  # none of them is as it should be now
    for extras in ("notebooks", "", "play"):
        assert setup(project, extras).returncode == 0
    assert installations(project)[2:] == [".[notebooks]", ".[play]"]


@pytest.mark.parametrize("before", [False, True], ids=["the first", "an extra"])
def test_setup_starts_afresh_after_being_killed(project, before):
    if before:
        assert setup(project).returncode == 0
    earlier = log(project)
    environment = os.environ | {"PYTHON": str(project.parent / "python"), "PIP_SECONDS": "60"}
    process = subprocess.Popen(
        ["bash", "launch_scripts/setup.bash", "ray"],
        cwd=project,
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    while not any(line.startswith("pip") for line in log(project)[len(earlier) :]):
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, 9)
    process.wait()
    assert setup(project).returncode == 0
    expected = [*(["pip"] if before else ["venv", "pip"]), "venv", "pip"]
    assert [line.split()[0] for line in log(project)[len(earlier) :]] == expected


def test_setup_says_that_pip_failed_and_keeps_the_environment(project):
    done = setup(project, PIP_EXIT="1")
    assert done.returncode == 1
    assert "pip could not install" in done.stderr and len(done.stderr.splitlines()) == 1
    assert setup(project).returncode == 0
    assert [line.split()[0] for line in log(project)] == ["venv", "pip", "pip"]


def test_an_extra_that_fails_leaves_the_rest_in_use(project):
    assert setup(project, "play").returncode == 0
    assert setup(project, "ray", PIP_EXIT="1").returncode == 1
    for extras in ("", "play"):  # as without a network: pip would fail
        assert setup(project, extras, PIP_EXIT="1").returncode == 0
    assert setup(project, "ray").returncode == 0
    assert installations(project) == [".[play]", ".[ray]", ".[ray]"]


def test_what_cannot_be_imported_is_named_and_not_called_complete(project):
    assert setup(project, "play").returncode == 0
    for _ in range(2):
        done = setup(project, "ray", CHECK_EXIT="1")
        assert done.returncode == 1 and "complete" not in done.stdout
        assert "cannot import cv2 (ImportError: no libGL)" in done.stderr and len(done.stderr.splitlines()) == 1
    assert setup(project, "play", CHECK_EXIT="1").returncode == 0  # is not tried again
    assert setup(project, "ray").returncode == 0


@pytest.mark.parametrize("extras", ["play notebooks", "notebooks,play,", " notebooks\nplay"])
def test_extras_may_be_written_in_any_way(project, extras):
    assert setup(project, extras).returncode == 0
    assert setup(project, "play").returncode == setup(project, "notebooks").returncode == 0
    assert len(installations(project)) == 1


@pytest.mark.parametrize("extras", ["swift", "play,swift", "../base", "*", "--swift"])
def test_an_unknown_extra_is_refused_before_anything_is_installed(project, extras):
    assert_mistake(setup(project, extras), extras.removeprefix("play,"))
    script = project / "launch_scripts" / "wm_doom.bash"
    assert_mistake(bash(script, "quick", cwd=project, EXTRAS=extras), extras.removeprefix("play,"))
    assert not log(project) and not (project / ".venv").exists()


@pytest.mark.parametrize("script", ["setup.bash", "test.bash"])
def test_help_of_setup_and_tests(script, project):
    for arguments in (["--help"], ["-h"], ["play", "--help"]):
        done = bash(f"launch_scripts/{script}", *arguments, cwd=project)
        assert done.returncode == 0 and not done.stderr
        assert done.stdout.startswith(f"usage: bash launch_scripts/{script} [")
    assert not log(project)


def test_other_versions_that_fail_are_tried_again(project):
    pinned = (project / "constraints.txt").read_text()
    assert setup(project).returncode == 0
    (project / "constraints.txt").write_text("numpy==2.4.6\n")
    assert setup(project, PIP_EXIT="1").returncode == 1
    assert setup(project, PIP_EXIT="1").returncode == 1
    (project / "constraints.txt").write_text(pinned)  # pip may have got half-way through them
    assert setup(project).returncode == 0
    assert installations(project) == ["."] * 4


def test_two_setups_at_once_install_once(project):
    if not shutil.which("flock"):
        pytest.skip("flock is missing")
    environment = os.environ | {"PYTHON": str(project.parent / "python"), "PIP_SECONDS": "0.5"}
    command = ["bash", "launch_scripts/setup.bash"]
    both = [subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(30) for process in both] == [0, 0]
    assert [line.split()[0] for line in log(project)] == ["venv", "pip"]


def test_setup_goes_on_where_the_disk_has_no_locks(project):
    flock = project.parent / "flock"
    flock.write_text("#!/bin/sh\necho flock: No locks available >&2; exit 71\n")
    flock.chmod(0o755)
    done = setup(project, PATH=f"{project.parent}:{os.environ['PATH']}")
    assert done.returncode == 0 and "waiting" not in done.stdout and not done.stderr


def test_python_may_be_named_from_where_the_user_is(project):
    (project.parent / "its python").mkdir()
    (project.parent / "python").rename(project.parent / "its python" / "python3")
    done = bash("project/launch_scripts/setup.bash", cwd=project.parent, PYTHON="its python/python3")
    assert done.returncode == 0, done.stderr


def test_setup_without_python(project):
    done = setup(project, PYTHON="/nowhere/python3")
    assert done.returncode == 1
    assert "/nowhere/python3 is missing" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.fixture
def command(project, tmp_path):
    """command(script, *arguments): what a script becomes when it is started elsewhere."""
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()

    def run(script, *arguments, **environment):
        python = str(project.parent / "python")
        path = project / "launch_scripts" / script
        done = bash(path, *arguments, cwd=elsewhere, **{"PYTHON": python, "EXTRAS": ""} | environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    return run


@every_experiment
def test_arguments_are_passed_on(script, name, command, tmp_path):
    start = f"-m experiment configs/{name}.yaml"
    assert command(script) == f"{start} --preset laptop --run runs/{name}"
    assert command(script, "quick") == f"{start} --preset quick --run runs/{name}-quick"
    expected = f"{start} --preset paper --run {tmp_path}/else where/my run vae.steps=3 rnn.steps=4"
    assert command(script, "paper", "vae.steps=3", "--run", "my run", "rnn.steps=4") == expected
    for run in (f"{tmp_path}/run", "~/run"):
        assert command(script, f"--run={run}", "quick") == f"{start} --preset quick --run {run}"


@every_experiment
def test_a_run_to_begin_with_is_meant_from_where_the_user_is(script, name, command, project, tmp_path):
    (project / "pretrained" / "doom").mkdir(parents=True)
    (tmp_path / "else where" / "mine").mkdir()
    here = f"{tmp_path}/else where"
    for given, meant in (
        *(("doom", "doom"), ("mine", f"{here}/mine"), ("dom", "dom"), ("", "")),
        *(("runs/x", f"{here}/runs/x"), ("../mine", f"{here}/../mine"), ("/runs/x", "/runs/x"), ("~/x", "~/x")),
    ):
        assert command(script, f"begin={given}").endswith(f" --run runs/{name} begin={meant}")


@every_experiment
def test_extras_are_installed(script, name, command, project):
    command(script, "quick", EXTRAS="gpu,ray")
    assert log(project)[-1].endswith("-e .[gpu,ray]")


def test_the_next_frame_model_may_be_of_either_game(command):
    start = "-m experiment configs/{0}.yaml --preset {1} --run runs/{2}"
    assert command("nextframe.bash") == start.format("breakout", "laptop", "breakout")
    assert command("nextframe.bash", "breakout", "paper") == start.format("breakout", "paper", "breakout-paper")
    for words in (["coinrun", "quick", "a.b=1"], ["quick", "a.b=1", "coinrun"], ["coinrun", "a.b=1", "quick"]):
        assert command("nextframe.bash", *words) == start.format("coinrun", "quick", "coinrun-quick a.b=1")


def test_the_next_frame_models_help_and_mistakes(tmp_path):
    script = SCRIPTS / "nextframe.bash"
    done = bash(script, "--help", cwd=tmp_path)
    assert done.returncode == 0 and not done.stderr
    assert done.stdout.startswith("usage: bash launch_scripts/nextframe.bash [quick|laptop|paper] [breakout|coinrun] ")
    assert_mistake(bash(script, "breakout", "coinrun", cwd=tmp_path), "'breakout' and 'coinrun'")
    assert_mistake(bash(script, "pong", cwd=tmp_path), "'pong': choose quick, laptop or paper, and breakout or coinrun")


BACKEND = """
import zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "world_models-1-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as file:
        file.writestr("installed_here.py", "import os\\nif os.path.exists('broken'): raise OSError('it is broken')")
        file.writestr("world_models-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: world-models\\nVersion: 1\\n")
        file.writestr("world_models-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        file.writestr("world_models-1.dist-info/RECORD", "")
    return name
"""
"""Builds a project of nothing but one module, without a network."""


def test_the_users_surroundings_do_not_reach_venv(tmp_path):
    """A real installation, of next to nothing, in the worst of surroundings."""
    project, home, elsewhere = tmp_path / "it's a [project] & ü", tmp_path / "home", tmp_path / "elsewhere"
    shutil.copytree(SCRIPTS, project / "launch_scripts")
    (project / "constraints.txt").touch()
    (project / "backend.py").write_text(BACKEND)
    (project / "pyproject.toml").write_text(
        """[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n"""
        """[project]\nname = "world-models"\nversion = "1"\n"""
    )
    for folder in (home, elsewhere / "lib"):
        folder.mkdir(parents=True)
    (home / "pip.conf").write_text(
        f"[global]\nno-index = true\nquiet = 2\n[install]\nprefix = {elsewhere}\nroot = /x\n"
    )
    (home / "profile").write_text("cd / && set -u && cat() { echo meow; }; export -f cat\n")
    (elsewhere / "lib" / "sitecustomize.py").write_text("raise SystemExit('the wrong place')")
    for name in ("pip", "installed_here"):
        (elsewhere / "lib" / f"{name}.py").write_text("raise SystemExit('the wrong package')")
    environment = {
        "HOME": home,
        "PIP_CONFIG_FILE": home / "pip.conf",
        "PIP_DRY_RUN": "1",
        "PIP_REQUIRE_HASHES": "1",
        "PIP_TARGET": elsewhere,
        "PIP_USER": "1",
        "PYTHONHOME": elsewhere,
        "PYTHONOPTIMIZE": "2",
        "PYTHONPATH": elsewhere / "lib",
        "PYTHONWARNINGS": "error",
        "PYTHON": sys.executable,
        "BASH_ENV": home / "profile",
        "BASH_FUNC_cd%%": "() { echo cd; }",
        "SHELLOPTS": "noclobber:noglob:nounset:posix",
        "CDPATH": f".:{home}:{project.parent}",
    }
    shutil.copytree(SCRIPTS, home / "launch_scripts")  # which CDPATH would find
    link = tmp_path / "a link"
    link.symlink_to(project / "launch_scripts" / "setup.bash")

    done = bash(link, cwd=tmp_path, **{name: str(value) for name, value in environment.items()})
    assert done.returncode == 0, done.stderr
    assert list(elsewhere.iterdir()) == [elsewhere / "lib"]
    shown = done.stdout.splitlines()[-1].partition("PATH: ")[2]
    assert bash("-c", f'{shown} && printf %s "$VIRTUAL_ENV"', cwd="/").stdout == str(project / ".venv")

    (project / "broken").touch()
    check = [project / ".venv" / "bin" / "python", "-I", "launch_scripts/packages.py", "check"]
    done = subprocess.run(check, cwd=project, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stdout.splitlines() == ["installed_here", "installed_here (OSError: it is broken)"]


def test_what_says_where_packages_come_from_is_kept(tmp_path):
    """pip's variables come before its files, and install's section before global's."""
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://one\ntimeout = 7\nuser = true\nextra-index-url =\n  https://a\n  https://b\n"
        "[install]\nindex-url = https://two\nroot = /x\n[download]\nproxy = https://three\n"
    )
    show = "import packages, json; print(json.dumps(packages.pip_environment()))"
    mine = {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "PIP_TIMEOUT": "8", "PIP_ROOT": "/y", "HOME": str(tmp_path)}
    mine["SSL_CERT_FILE"] = "/its.pem"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")} | mine
    done = subprocess.run([sys.executable, "-c", show], cwd=SCRIPTS, env=environment, capture_output=True, check=True)
    kept = {name: value for name, value in json.loads(done.stdout).items() if name.startswith("PIP_")}
    assert kept.pop("PIP_CONFIG_FILE") == os.devnull
    expected = {"PIP_INDEX_URL": "https://two", "PIP_EXTRA_INDEX_URL": "https://a https://b", "PIP_TIMEOUT": "8"}
    assert expected.items() <= kept.items() and not kept.keys() & {"PIP_USER", "PIP_ROOT", "PIP_PROXY"}
    assert json.loads(done.stdout)["SSL_CERT_FILE"] == "/its.pem"


@pytest.mark.skipif(not shutil.which("git"), reason="no git: apt install git")
def test_a_clone_with_other_line_ends_has_the_same_files(tmp_path):
    """As core.autocrlf=true makes it, which is usual on Windows and WSL."""
    files = [".gitattributes", "constraints.txt", "docker/Dockerfile", "pyproject.toml", "configs/doom.yaml"]
    files += [".ci/run", "launch_scripts/wm_doom.bash", "launch_scripts/packages.py", "play/static/play.js"]
    files += ["pretrained/doom/metrics/vae.csv", "pretrained/doom/vae.weights.h5", "docs/doom_dream.gif"]
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for arguments in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *arguments], cwd=tmp_path, env=environment, check=True, timeout=60)
    for name in files:
        (tmp_path / name).unlink()
    checkout = ["git", "-c", "core.autocrlf=true", "-c", "core.eol=crlf", "checkout", "-q", "--", "."]
    subprocess.run(checkout, cwd=tmp_path, env=environment, check=True, timeout=60)
    assert [name for name in files if (tmp_path / name).read_bytes() != (ROOT / name).read_bytes()] == []
