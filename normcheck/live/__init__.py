"""The model, running. torch is imported only here, and only when a run is asked for."""
