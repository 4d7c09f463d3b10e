"""Why statistics misfit the data although they are right: another input, or other code."""
