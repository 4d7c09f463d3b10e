"""Small trained networks with known normalisation faults, and the script that makes them."""
