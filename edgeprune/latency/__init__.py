"""What the network costs."""
