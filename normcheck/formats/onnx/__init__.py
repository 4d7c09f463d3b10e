"""ONNX: a model read from its wire format, and put back into the terms of torch."""
