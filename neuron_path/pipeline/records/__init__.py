"""Whether two runs are the same: what makes a run, taking one up again, and checking it against its record."""
