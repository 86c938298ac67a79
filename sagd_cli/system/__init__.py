"""The machine and the terminal: files, devices, processes, signals, YAML and output."""
