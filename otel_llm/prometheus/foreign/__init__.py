"""What other instrumentations record of clients that we do not patch, for the pages of dialects."""
