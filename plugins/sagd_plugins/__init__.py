"""The built-in plug-ins, one in each file. They use the same hooks as all other plug-ins."""
