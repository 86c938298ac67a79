"""The built-in plug-ins, one a file, through the same hooks as anyone's."""
