"""Which processes search, how those of our own are started, and what each of them does."""
