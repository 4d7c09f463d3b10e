"""Rules on modes and configuration (NC2)."""
