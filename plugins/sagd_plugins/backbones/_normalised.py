"""Group normalisation that stays in the type of its input under autocast."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GroupNorm(nn.GroupNorm):
    """torch's, in the type of its input; its sums are float32 inside.

    On CUDA, autocast would compute it in float32, and with it the activation that follows: twice the traffic.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return fields like x, normalised over groups of channels."""
        if not torch.is_autocast_enabled(x.device.type):
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            # CUDA's kernel takes weights of the type of its input alone.
            return F.group_norm(x, self.num_groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


def normalised_in_own_type(network: nn.Module) -> nn.Module:
    """Return `network`, with this GroupNorm in place of torch's; its weights and their names are the same."""
    for module in network.modules():
        if type(module) is nn.GroupNorm and module.affine:
            module.__class__ = GroupNorm
    return network
