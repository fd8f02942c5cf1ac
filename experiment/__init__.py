"""What every stage shares: settings, the run folder, metrics, hardware, progress and workers.

Nothing here imports TensorFlow at import time, so that a mistake in a setting is answered at once.
"""

import os

# HDF5 locks what it reads, which network disks refuse; here every file is whole before it has its name.
os.environ["HDF5_USE_FILE_LOCKING"] = "FALSE"
