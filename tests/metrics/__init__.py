"""Metrics, their exports, and health."""
