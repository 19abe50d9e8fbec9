"""Base class of all networks."""

from __future__ import annotations

from enum import Enum

from torch import Tensor, nn

from rtseg.errors import OptionError

__all__ = ["Network", "Output"]


class Output(Enum):
    """Kind of an output in training mode, which decides its loss; see ``rtseg.training.objective.output_losses``."""

    CLASSES = "classes"
    """Logits of the classes, (N, classes, h, w)."""
    BOUNDARY = "boundary"
    """Logits of the boundaries between classes, (N, 1, h, w)."""
    CLASSES_AT_BOUNDARY = "classes at the boundary"
    """Logits of the classes, of which only the pixels count that the ``BOUNDARY`` output sees as boundary."""
    ALIGNMENT = "alignment"
    """Features of the network, and those that they are aligned with, (N, 2, C, h, w)."""


class Network(nn.Module):
    """A segmentation network: normalised images in, logits out.

    Args:
        classes: number of classes.
        channels: of the images, 1 to 4; see ``rtseg.models.label_network.normalise``.

    Raises:
        OptionError: ``channels`` is out of range.
    """

    multiple: int = 32
    """Height and width of the input must be multiples of this, in pixels."""
    stride: int = 4
    """Stride of the logits in evaluation mode: their size is (H / stride, W / stride)."""
    auxiliary: tuple[str, ...] = ()
    """Names of the submodules that are used only in training."""
    optional_parts: tuple[str, ...] = ()
    """Names of submodules that an initial checkpoint may lack, as it is of a simpler network."""
    loss_weights: tuple[float, ...] = (1.0,)
    """Weight in the loss of each output in training mode."""
    outputs: tuple[Output, ...] = ()
    """Kind of each output in training mode; empty if all are logits of the classes."""
    coarse_labels: bool = False
    """Whether training downsamples the labels to each output, instead of upsampling the output."""
    recurrent: bool = False
    """Whether the prediction depends on the previous images; ``forward`` then takes and returns a state."""
    architecture: str = ""
    """The string from which ``create_model`` builds this network; set by ``create_model``."""

    def __init__(self, classes: int, channels: int = 3) -> None:
        super().__init__()
        if channels not in (1, 2, 3, 4):
            raise OptionError(f"a network takes images of 1 to 4 channels, got {channels}")
        self.classes = classes
        self.channels = channels

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits (N, classes, H / s, W / s) for float (N, channels, H, W); in training mode a tuple of them.

        The first element of the tuple is the main prediction, with ``s = stride``; the others have their own strides,
        and are what ``outputs`` says.

        A recurrent network has a second argument ``state``, float (N, D, h, w) of ``state_shape``, or None (zeros) for
        the first image, and returns the logits and the state for the next image.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def state_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Return (D, h, w) of the state of a recurrent network for images of (height, width), in pixels."""
        raise NotImplementedError(f"{type(self).__name__} has no state")

    def load_pretrained(self) -> None:
        """Load the weights that torchvision publishes.

        Raises:
            OptionError: there are none for this network.
            CheckpointError: they cannot be downloaded.
        """
        name = self.architecture.partition(":")[0]
        raise OptionError(f"there are no published weights for {name!r}: leave out pretrained")

    def fix_size(self, height: int, width: int) -> None:
        """Store what depends on the input size in named buffers, before export. Most networks have nothing to store."""

    def check_size(self, height: int, width: int, option: str = "--size") -> None:
        """Check that the network can take an input size.

        Raises:
            OptionError: height or width is not a positive multiple of ``multiple``; the message names the nearest valid
                size.
        """
        step = self.multiple
        if height < step or width < step or height % step or width % step:
            nearest = "x".join(str(max(1, round(v / step)) * step) for v in (height, width))
            name = type(self).__name__
            raise OptionError(
                f"{name} takes sizes in multiples of {step}, got {height}x{width}: try {option} {nearest}"
            )
