"""What the machine and the person at the terminal are reached through."""
