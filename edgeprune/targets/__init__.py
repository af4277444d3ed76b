"""Where the network will run."""
