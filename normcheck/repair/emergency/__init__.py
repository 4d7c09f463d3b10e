"""Statistics estimated anew without data, where they are lost or belong to other weights."""
