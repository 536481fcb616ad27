"""Thin Lightning wrappers: they move data, spread work over devices and hand results to a writer."""
