"""What training leaves of the statistics that a norm used: in biases, and in an optimizer."""
