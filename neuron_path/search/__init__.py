"""Searches: ways to pick a path by a scorer's ratings."""
