"""Rules on affine parameters and design."""
