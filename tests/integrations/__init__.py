"""Guards, callbacks, the plugin for pytest, trackers: with real loops and real libraries."""
