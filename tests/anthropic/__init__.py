"""What is `anthropic`'s alone."""
