"""Listings of sources, on every backend."""
