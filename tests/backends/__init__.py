"""Real servers for the tests: the recipe that builds them, the code that runs them, and the fixtures that offer them."""
