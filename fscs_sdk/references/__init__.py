"""Supports as people have them -> shots."""
