"""What ``serve`` is made of."""
