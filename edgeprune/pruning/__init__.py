"""Make the network narrower."""
