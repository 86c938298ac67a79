"""Images that are held out: the best averaged weights are kept, and a training ends when they stay the best."""

from dataclasses import dataclass, field

import torch
from torch import nn

from sagd_cli.config.run import TrainingConfig
from sagd_cli.diffusion.loss import Errors
from sagd_cli.model.ema import PATIENCE
from sagd_cli.model.state import TrainingState
from sagd_cli.training.held_out import HeldOut
from sagd_cli.training.loop import Callbacks


@dataclass
class Given:
    """A loss whose root mean squares on the images held out are given."""

    values: list[float]
    seen: list[int] = field(default_factory=list)

    def errors(self, network, x0, stream):
        self.seen.append(len(x0))
        return Errors(torch.full_like(x0, self.values[0]), x0, x0)


def test_the_weights_with_the_smallest_loss_become_the_average_when_no_better_ones_come():
    state = TrainingState(nn.Linear(1, 1), TrainingConfig(log_steps=2), torch.device("cpu"), keeps_best=True)
    loss, saved, records = Given([]), [], []
    weight = state.ema.network.weight
    callbacks = Callbacks(record=records.append, checkpoint=lambda: saved.append(float(weight)))
    watched = HeldOut(torch.zeros(200, 1, 2, 2), state, loss, TrainingConfig(log_steps=2)).watched(callbacks)
    for step, value in enumerate([9, 3.0, 9, 2.0, 9, 5.0, 9, 2.0, 9, 4.0, 9, 2.5, 9, 2.25], start=1):
        state.step, loss.values = step, [value]
        weight.data.fill_(step)
        watched.record({"step": step})
        watched.checkpoint()
        assert state.best.is_past == (step == 14)
    # Looked at on each second step alone, and the best weights are those of step 4.
    assert [record.get("held_out_loss") for record in records[1::2]] == [9, 4, 25, 4, 16, 6.25, 2.25**2]
    assert not any("held_out_loss" in record for record in records[::2])
    assert saved == [*range(1, 14), 4] and PATIENCE == 5
    assert set(loss.seen) == {200} and len(loss.seen) == 14  # 256 draws or more for each look


def test_at_the_end_of_the_budget_the_best_weights_are_the_average():
    settings = TrainingConfig(images=3, batch_size=1, log_steps=2)
    state, loss = TrainingState(nn.Linear(1, 1), settings, torch.device("cpu"), keeps_best=True), Given([])
    watched = HeldOut(torch.zeros(300, 1, 2, 2), state, loss, settings).watched(Callbacks())
    for step, value in ((2, 1.0), (3, 2.0)):
        state.step, loss.values = step, [value]
        state.ema.network.weight.data.fill_(step)
        watched.record({})
        watched.checkpoint()
    assert float(state.ema.network.weight) == 2
