"""TorchScript and exported programs."""
