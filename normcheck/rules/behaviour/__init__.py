"""Rules on what forwards do, on any input (NC3)."""
