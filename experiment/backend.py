"""TensorFlow and Keras as this project needs them, whatever the user's variables and files say: imported here alone.

Keras has one backend and one number format for a whole process, and reads them when it is imported, which TensorFlow
does too: from KERAS_* variables, and from keras.json in KERAS_HOME or the home folder. A choice of another backend
belongs here too.
"""

import functools
import io
import os
from pathlib import Path
from typing import Any

import h5py

from experiment.files import atomic
from experiment.problem import Problem

NEEDED = {"backend": "tensorflow", "floatx": "float32", "image_data_format": "channels_last"}


# They are imported on our backend, with its own defaults; then the variables are the user's again.
users = {name: os.environ.pop(name) for name in [*os.environ] if name.startswith("KERAS_")}
os.environ.update(KERAS_BACKEND=NEEDED["backend"], KERAS_HOME=os.devnull)  # no folder: keras.json is not read
try:
    import keras
    import tensorflow as tf
    from keras import layers as layers
    from keras import ops as ops
finally:
    del os.environ["KERAS_BACKEND"], os.environ["KERAS_HOME"]
    os.environ.update(users)

found = {name: getattr(keras.config, name)() for name in NEEDED}
if found != NEEDED:
    raise Problem(
        f"Keras was imported before this project, with {found}: import it afterwards, or have it use {NEEDED} "
        "(KERAS_BACKEND, ~/.keras/keras.json)"
    )

graph = functools.partial(tf.function, autograph=False)
"""tf.function as it is used here, of code whose loops and branches are Python's, but for tf.while_loop's.

To have AutoGraph look for others takes a tenth of a short run.
"""


class InMemory(io.BytesIO):
    """A file in memory, with a name that Keras takes."""

    def __str__(self) -> str:
        return "memory.weights.h5"


def save_weights(model: keras.Model, path: Path, **attributes: Any) -> None:
    """Write a model's weights, and its optimiser's state if it has one, whole or not at all; attributes: of the file.

    HDF5 writes into memory: on a full disk it would answer with many messages and a crash at exit.
    Raises Problem when the disk is full.
    """
    memory = InMemory()
    model.save_weights(memory)
    with h5py.File(memory, "r+") as file:
        file.attrs.update(attributes)
    with atomic(path) as temporary:
        temporary.write_bytes(memory.getbuffer())
