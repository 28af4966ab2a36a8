"""Dialects: their files, what they show, and that this is what the systems showed that had these names first."""
