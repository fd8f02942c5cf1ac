"""V: a convolutional variational autoencoder that compresses each frame to a latent vector (paper, section 2.1).

Nothing here imports TensorFlow at import time; see `model.py` for the network.
"""

import experiment  # noqa: F401 (before TensorFlow: it says how that is loaded)
