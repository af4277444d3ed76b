"""What the network is: channels that must be cut together, layers, width plans."""
