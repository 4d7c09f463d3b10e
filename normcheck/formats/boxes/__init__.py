"""Archives around models: read through, without anything being unpacked to disk."""
