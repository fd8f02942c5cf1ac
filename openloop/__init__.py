"""How the errors of a model that predicts frames compound when it is fed its own predictions.

predictor.py    the interface that a model needs, small enough for V+M and for a next-frame model
vm.py           V+M as a predictor (the next-frame model: nextframe/model.py)
windows.py      the fixed windows of held-out episodes that predictions are compared on
evaluation.py   the curves of every window: open loop, teacher-forced, copy, floor; means with bands
report.py       what is recorded, CSV files, plots and videos
record.py       whether that is there already, and its figures as text
again.py        whether a next-frame model does as well on fresh episodes

Start reading at predictor.py and evaluation.py.
"""

import experiment  # noqa: F401 (before TensorFlow: it says how that is loaded)
