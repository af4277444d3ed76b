"""EdgePrune: from a trained PyTorch network and a number of milliseconds to an engine measured to run within them."""
