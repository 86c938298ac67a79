"""Trainings that are stopped at a step, and the hashes that say whether they went on as if they had not been."""

import hashlib
import os
import signal
from contextlib import contextmanager

from sagd_cli.system.console import Output


class StopAt(Output):
    """An Output whose progress sends a signal to this process at a step."""

    @contextmanager
    def progress(self, label, total, done=0, images_per_step=1):
        outer = self

        class Bar:
            steps = done

            def advance(self):
                self.steps += 1
                if self.steps == outer.at:
                    os.kill(os.getpid(), outer.signum)

            def show(self, **figures):
                pass

        yield Bar()


def stop_at(step, signum=signal.SIGTERM):
    output = StopAt(quiet=True)
    object.__setattr__(output, "at", step)
    object.__setattr__(output, "signum", signum)
    return output


def hashes(run, step=8):
    folder = run / "checkpoints" / f"step-{step:08d}"
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.safetensors")}
