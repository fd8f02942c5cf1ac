"""The offline next-frame model: from the last frames and the actions taken after them, the frame that follows.

windows.py      windows of recorded frames and actions, cut when they are read
model.py        the model, its loss and its files, and what openloop and the player need of it; networks.py its architectures
training.py     training, and what it leaves behind
validation.py   figures, strips and open-loop videos of held-out windows

Start reading at model.py.
"""

import experiment  # noqa: F401 (before TensorFlow: it says how that is loaded)
