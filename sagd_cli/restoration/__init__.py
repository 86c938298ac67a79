"""Corruption confined to a band: adding it, measuring it, omitting it (MATH: 6. Selective omission)."""
