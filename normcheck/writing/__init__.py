"""Everything that normcheck writes goes through here: reports, baselines, figures, repaired copies.

A regular file is written whole or not at all, and never in place of anything else: a link is
followed, a device, a FIFO and a socket are written into as they stand.
"""
