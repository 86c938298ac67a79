"""`sagd omit`: its options, the noise and its strength, which model, and the files (docs/theory.md, section 6)."""
