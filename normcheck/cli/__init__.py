"""The command line: words in, exit code out. Nothing below it prints, reads flags or exits."""
