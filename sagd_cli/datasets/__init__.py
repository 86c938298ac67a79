"""Data sets through their plug-ins: opened, hashed, written to files; true and clean images."""
