"""Make the network accurate."""
