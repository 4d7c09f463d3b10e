"""Programs of ``torch.export``: their archive and their graph."""
