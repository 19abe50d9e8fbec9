"""ICNet for video: a convolutional GRU instead of pyramid pooling, with a state passed from frame to frame.

    image 1/4 ── conv3_2 .. conv5_4 ──► 1/32 ──► GRU ──► to the cascade, as in ``rtseg.models.icnet``
                                                  ▲   │
                                 previous state ──┘   └──► state for the next frame

Sources: backbone and cascade as in ``rtseg.models.icnet``; the recurrent unit of Cho et al., EMNLP 2014,
arXiv 1406.1078, section 2.3, with convolutions instead of matrices as in Ballas, Yao, Pal, Courville, ICLR 2016,
arXiv 1511.06432, section 3.1; first used for segmentation by Siam, Valipour, Jagersand, Ray, "Convolutional Gated
Recurrent Networks for Video Segmentation", arXiv 1611.05435.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rtseg.models.icnet import ICNet

__all__ = ["ConvGRU", "ICNetGRU"]


class ConvGRU(nn.Module):
    """Gated recurrent unit on feature maps::

        z  = sigmoid(W_z * [x, h])
        r  = sigmoid(W_r * [x, h])
        c  = tanh(W_c * [x, r h])
        h' = (1 - z) h + z c

    ``*`` is a 3x3 convolution with bias, ``[,]`` is concatenation, all other operations are elementwise. ``h'`` is both
    the output and the next state. Source: arXiv 1511.06432, section 3.1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.update = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.reset = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.candidate = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def initialise(self) -> None:
        """Initialise the weights for sigmoid and tanh instead of ReLU; the gates start half open."""
        for convolution, slope in ((self.update, "sigmoid"), (self.reset, "sigmoid"), (self.candidate, "tanh")):
            nn.init.xavier_normal_(convolution.weight, nn.init.calculate_gain(slope))  # type: ignore[arg-type]
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, state: Tensor | None = None) -> Tensor:
        """Return the next state, (N, C, h, w), for float features (N, C, h, w) and the previous state (None: zeros).

        Autocast applies to the convolutions. Gates and state keep the precision of the weights (fp32): with an update
        gate near 0, the change of the state would be lost in half precision.
        """
        dtype = self.update.weight.dtype
        features = features.to(dtype)
        state = torch.zeros_like(features) if state is None else state
        both = torch.cat((features, state), 1)
        update: Tensor = self.update(both).to(dtype).sigmoid()
        reset: Tensor = self.reset(both).to(dtype).sigmoid()
        candidate: Tensor = self.candidate(torch.cat((features, reset * state), 1)).to(dtype).tanh()
        return state + update * (candidate - state)


class ICNetGRU(ICNet):
    """ICNet with the pruned backbone of its authors, as a recurrent network.

    Args:
        classes: number of classes.
        width: channels of the first convolution; all other widths are proportional, the state has
            ``8 * width``.
        loss_weights: weight in the training loss of the predictions at 1/4, 1/8 and 1/16.
        channels: of the images.
    """

    recurrent = True
    optional_parts = ("gru",)  # training can start from the weights of an ``icnet``

    def __init__(
        self,
        classes: int,
        *,
        width: int = 32,
        loss_weights: tuple[float, ...] = (1.0, 0.4, 0.4),
        channels: int = 3,
    ) -> None:
        super().__init__(classes, width=width, pyramid=False, loss_weights=loss_weights, channels=channels)
        self.gru = ConvGRU(8 * width)
        self.gru.initialise()

    def state_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """See ``Network.state_shape``."""
        return self.gru.update.out_channels, height // 32, width // 32

    # The signature differs from that of other networks; callers check ``recurrent``.
    def forward(  # type: ignore[override]
        self, images: Tensor, state: Tensor | None = None
    ) -> tuple[Tensor | tuple[Tensor, ...], Tensor]:
        """Return the logits of ``Cascade.forward`` and the state for the next image; see ``Network.forward``."""
        half, low = self.coarse(images)
        next_state = self.gru(low, state)
        return self.fuse(images, half, next_state), next_state
