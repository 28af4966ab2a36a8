"""The clients that are made like `openai`, each where it is installed."""
