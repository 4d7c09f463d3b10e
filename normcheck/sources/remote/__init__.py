"""Files at addresses, through fsspec: listed, opened, and read in parts."""
