"""Into the tools that people have: one file for each, loaded when it is used, and its package an extra."""
