"""Whether running statistics belong to the weights before them."""
