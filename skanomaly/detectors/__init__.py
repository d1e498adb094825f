"""One file a method: its networks, then its estimator."""
