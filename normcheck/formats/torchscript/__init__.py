"""TorchScript: its archive, and its code followed as a graph."""
