"""What makes a release: building the package, trying the wheel, tagging."""
