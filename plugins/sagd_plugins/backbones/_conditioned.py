"""diffusers' models as networks of (x_t, timestep, labels), whose last label means "no class"."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DiT(nn.Module):
    """DiT; without labels, all images have the label `unlabelled`. Of learned variances it leaves out the variances."""

    def __init__(self, transformer: nn.Module, unlabelled: int = 0) -> None:
        """Take a DiTTransformer2DModel."""
        from diffusers.models.embeddings import LabelEmbedding

        super().__init__()
        self.transformer = transformer
        self.unlabelled = unlabelled
        # The transformer would drop labels itself, in addition to those that training drops.
        for module in transformer.modules():
            if isinstance(module, LabelEmbedding):
                module.dropout_prob = 0.0

    def forward(self, x_t: Tensor, timestep: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the prediction for x_t (B, C, S, S)."""
        if labels is None:
            labels = torch.full((len(x_t),), self.unlabelled, device=x_t.device)
        output: Tensor = self.transformer(x_t, timestep=timestep, class_labels=labels).sample
        return output[:, : x_t.shape[1]]


class WithoutVariance(nn.Module):
    """A UNet2DModel that learned variances: the first half of its channels is the prediction (2102.09672)."""

    def __init__(self, unet: nn.Module) -> None:
        """Take a UNet2DModel."""
        super().__init__()
        self.unet = unet

    def forward(self, x_t: Tensor, timestep: Tensor, *condition: Tensor) -> Tensor:
        """Return the prediction for x_t (B, C, H, W)."""
        output: Tensor = self.unet(x_t, timestep, *condition).sample
        return output[:, : x_t.shape[1]]


class ClassEmbedding(nn.Embedding):
    """An embedding of K classes in which the label K, "no class", is zero."""

    def forward(self, labels: Tensor) -> Tensor:
        """Return the embeddings (B, D) of labels (B,) from 0 to K."""
        known = labels < self.num_embeddings
        return F.embedding(labels.clamp(max=self.num_embeddings - 1), self.weight) * known[:, None]
