"""Rules on modes and configuration."""
