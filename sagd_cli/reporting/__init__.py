"""Results made visible: figures in files and small plots on the terminal."""
