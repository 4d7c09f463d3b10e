"""What running a model tells, measured."""
