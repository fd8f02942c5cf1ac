"""The notebooks, executed from top to bottom as a reader does, on an untrained agent and on the shipped one's figures."""

import base64
import io
from pathlib import Path

import nbformat
import numpy as np
import pytest
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.util import run_sync
from PIL import Image

from experiment.__main__ import where_everything_is
from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Env, Experiment
from tests.test_gallery import small_run
from tests.test_viz import read_video

FOLDER = Path(__file__).parents[1] / "notebooks"
BEGIN = """
%reset -f
import os, sys
os.environ.update({})
if "keras" in sys.modules:
    sys.modules["keras"].config.set_dtype_policy("float32")
del os, sys
"""
NAMES = ["compounding_error", "dream", "results", "vmc_from_scratch"]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """executed(name): a notebook's cells after all of them have been run in its own folder, by environment variables.

    All in one kernel, which imports TensorFlow once, and forgets every name before each.
    """
    run = small_run(tmp_path_factory.mktemp("notebooks") / "small")
    done: dict[str, list[nbformat.NotebookNode]] = {}
    kernel = AsyncKernelManager()

    def execute(name: str) -> list[nbformat.NotebookNode]:
        if name not in done:
            notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
            environment = {
                "RUNS": str(run.path) if name == "dream" else f"doom {run.path}",
                "STEPS": "60",
                "SECONDS": "0.5",
                "GENERATIONS": "2",
            }
            notebook.cells.insert(0, nbformat.v4.new_code_cell(BEGIN.format(environment)))
            folder = {"metadata": {"path": str(FOLDER)}}
            # As long for the last output of a cell: after nbclient's own 4 seconds it would be left out, on a busy machine.
            client = NotebookClient(notebook, km=kernel, timeout=300, iopub_timeout=300, resources=folder)
            done[name] = client.execute().cells[1:]
        return done[name]

    yield execute
    run_sync(kernel.shutdown_kernel)(now=True)


def outputs(cells, words: str) -> list[nbformat.NotebookNode]:
    """What the one cell with these words has put out."""
    (cell,) = [cell for cell in cells if cell.cell_type == "code" and words in cell.source]
    return cell.outputs


def data(outputs, kind: str) -> list[str]:
    """The outputs of a MIME type."""
    return [output.data[kind] for output in outputs if kind in output.get("data", {})]


def pictures(outputs) -> list[np.ndarray]:
    """The PNGs among outputs, (h, w, 3)."""
    return [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")) for png in data(outputs, "image/png")
    ]


def videos(outputs, folder: Path) -> list[np.ndarray]:
    """The videos that outputs carry in themselves, (T, h, w, 3)."""
    found = []
    for html in data(outputs, "text/html"):
        path = folder / "video.mp4"
        path.write_bytes(base64.b64decode(html.split("data:video/mp4;base64,")[1].split('"')[0]))
        found.append(read_video(path))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_through_without_a_word_on_stderr(name, executed):
    cells = executed(name)
    for cell in cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error" and output.get("name") != "stderr", output
    assert all(cell.execution_count for cell in cells if cell.cell_type == "code")


def test_dreams_are_shown(executed, tmp_path):
    cells = executed("dream")
    said = outputs(cells, "describe")[0].text
    assert said.startswith("doom: 60 tics")
    same, warm = outputs(cells, "branch.compare"), outputs(cells, "at_temperatures")
    (film,), (strip,) = videos(same, tmp_path), pictures(same)
    assert film.shape[1] > 190 and film.shape[2] > 3 * 190 and len(film) > 10
    third = film.shape[2] // 3
    real, dreamt = (film[:, 30:, part * third + 8 : part * third + 180].astype(int) for part in (0, 2))
    assert np.abs(real - dreamt).mean() > 5 and real.std() > 5
    assert strip.shape[0] > 3 * 128
    assert videos(warm, tmp_path)[0].shape[2] > 5 * 128 and pictures(warm)[0].shape[0] > 5 * 128
    assert len(pictures(outputs(cells, "exhibit.traverse"))) == len(pictures(outputs(cells, "expected.expect"))) == 1
    for slider in ("temperature_slider", "latent_sliders"):
        assert len(data(outputs(cells, slider), "application/vnd.jupyter.widget-view+json")) == 1


def test_results_are_shown(executed):
    cells = executed("results")
    text = outputs(cells, "result.table()")[0].text
    assert text.startswith("doom\n") and "\nsmall\n" in text and text.count("1,092 ± 556") == 2
    for words in ("result.training()", "result.temperatures()", "result.returns()"):
        shown = pictures(outputs(cells, words))
        assert len(shown) == 2 and all((picture != 255).any(axis=-1).mean() > 0.01 for picture in shown)
    fixed = outputs(cells, "result.fixed_policies()")
    assert len(pictures(fixed)) == 1 and "has not measured that" in data(fixed, "text/plain")[-1]


def test_compounding_error_is_shown(executed):
    cells = executed("compounding_error")
    for words in ("error_panel(run) for", 'error_panel(run, "ssim")', "relative_panel"):
        assert len(pictures(outputs(cells, words))) == 1
    futures = pictures(outputs(cells, "futures"))
    assert len(futures) == 2, "one for each model"
    assert all(picture.shape[0] > 3 * 128 for picture in futures)
    assert len(data(outputs(cells, "typed_steps"), "application/vnd.jupyter.widget-view+json")) == 2


def test_v_m_and_c_are_shown_from_scratch(executed):
    cells = executed("vmc_from_scratch")
    assert float(outputs(cells, "largest difference")[0].text.split()[-1]) < 1e-5, "its M is not the project's"
    played = "".join(output.get("text", "") for output in outputs(cells, "players"))
    means = {line.split()[0]: int(line.split()[1]) for line in played.splitlines()}
    assert 40 < means["C"] <= 60 and set(means) == {"C", "random", "stays"}
    assert "be 1: [1. 1. 1. 1. 1. 1. 1. 1. 1. 1.]" in outputs(cells, "def cma_es")[0].text
    cells_with_a_picture = ("vae.encode", "axes.hist", "players", "fill_between")
    assert [len(pictures(outputs(cells, words))) for words in cells_with_a_picture] == [1, 1, 1, 1]
    assert (FOLDER / "vmc_from_scratch.ipynb").stat().st_size < 1e6


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_kept_with_its_outputs_and_without_its_makers(name):
    text = (FOLDER / f"{name}.ipynb").read_text()
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    kinds = [output.output_type for cell in notebook.cells for output in cell.get("outputs", [])]
    assert "display_data" in kinds and "error" not in kinds
    printed = [output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])]
    sources = [cell.source for cell in notebook.cells]
    assert not [part for part in printed + sources if "/home/" in part or "/tmp/" in part or str(FOLDER.parent) in part]
    assert str(FOLDER.parent) not in text
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) < 6e6


@pytest.mark.parametrize(("world", "shown"), [("doom", "notebooks"), ("breakout", "notebooks/compounding_error.ipynb")])
def test_a_run_ends_by_naming_the_notebooks_that_show_it(world, shown, tmp_path):
    words = where_everything_is(Experiment(env=Env(name=world)), Run(tmp_path))
    assert f"jupyter lab {shown}\n" in words and (FOLDER.parent / shown).exists()
    assert words.endswith(f"python -m play {tmp_path}")


def test_a_mistake_is_one_line_in_a_notebook(capsys):
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    shell.user_ns["problem"] = Problem("there is no run here")
    shell.run_cell("raise problem")
    assert capsys.readouterr().out.strip() == "error: there is no run here"
