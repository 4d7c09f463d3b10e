"""Many checkpoints: one file after the other, side by side, or on a cluster; all report alike."""
