"""An Output that keeps what it was told, and what is found while it listens."""

from sagd_cli.run import manifest
from sagd_cli.system.console import Output


class Listening(Output):
    """An Output whose warnings are kept in `warnings` instead of being printed."""

    def __init__(self):
        super().__init__(quiet=True)
        object.__setattr__(self, "warnings", [])

    def warn(self, message):
        self.warnings.append(message)


def newest_and_skipped(folder):
    """The newest sound checkpoint in `folder`, and why newer ones were skipped."""
    output = Listening()
    return manifest.newest(folder, output), output.warnings
