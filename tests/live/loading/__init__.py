"""From a file to a model that runs."""
