"""What the network will run on."""
