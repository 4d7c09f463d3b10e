"""What is shown, and where reports are written."""
