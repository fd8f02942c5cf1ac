"""What every stage shares: settings, the run folder, metrics, hardware, progress and workers.

Nothing here imports TensorFlow at import time, so that a mistake in a setting is answered at once.
"""
