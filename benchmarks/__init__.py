"""The speed of the store, compared with its alternatives."""
