"""M: an LSTM with a mixture-density output, its training, and the dream."""
