"""What to keep of the network."""
