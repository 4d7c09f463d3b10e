"""Rules on affine parameters and design (NC5)."""
