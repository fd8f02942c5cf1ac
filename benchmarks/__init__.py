"""How fast everything is, each as a ratio against a plain baseline measured in the same run."""
