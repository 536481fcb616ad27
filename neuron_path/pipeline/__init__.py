"""The stages of a run: search, effects, report; each from the configuration and what the one before left on disk."""
