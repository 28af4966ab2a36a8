"""One application, run in the three ways: zero code, one line, and by way of a collector."""
