"""Figures of the project's own studies, which no command draws."""
