"""The readers, with real files that torch, pickle and safetensors write here."""
