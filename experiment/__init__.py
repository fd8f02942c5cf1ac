"""What every stage shares: settings, the run folder, metrics, hardware, progress and workers.

Nothing here imports TensorFlow at import time, so that a mistake in a setting is answered at once.
"""

import os
import sys

# HDF5 locks what it reads, which network disks refuse; here every file is whole before it has its name.
os.environ["HDF5_USE_FILE_LOCKING"] = "FALSE"
# TensorFlow's own products know neither AVX2 nor FMA, and it takes oneDNN's by itself only where there is AVX-512: with AVX2
# alone V trains at twice the speed with these.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# Its wheels since 2.20 show all their symbols to whatever is loaded later, and what has an LLVM of its own (triton, which torch
# loads with its first optimizer; the drivers behind a window) then calls TensorFlow's and crashes. Without this module, which
# its next wheels leave out, they keep them to themselves (tensorflow#124205).
sys.modules.setdefault("tensorflow.python.pywrap_dlopen_global_flags", None)  # type: ignore[arg-type]
