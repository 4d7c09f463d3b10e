"""Exported models, read without running them: TorchScript, ``torch.export``, ONNX."""
