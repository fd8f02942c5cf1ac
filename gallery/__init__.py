"""What a run looks like: for the notebooks, and for the README's pictures (`python -m gallery`).

runs.py         finds what is shown, by name
exhibit.py      opens the agent of a run, or a shipped one, and lets it live some steps of its real world;
                V's latent space, one dimension at a time
branch.py       dreams that leave a real episode at one moment: under the same actions, or with C acting
expected.py     what M expects next, at every moment of an episode
stepping.py     a model stepped through under actions that are typed
notebook.py     pictures, plots and videos as a notebook shows them; sliders.py what its reader can change
pictures.py     the files that `python -m gallery` writes
export.py       makes of a run what is shipped, or what other projects read; formats.py how that is written

Start reading at exhibit.py and branch.py.
"""

import experiment  # noqa: F401 (before TensorFlow: it says how that is loaded)
