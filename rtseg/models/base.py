"""What training and export ask of every network."""

from __future__ import annotations

from torch import Tensor, nn

from rtseg.errors import OptionError

__all__ = ["Network"]


class Network(nn.Module):
    """A segmentation network: normalised images in, logits out.

    Args:
        classes: number of classes.
        channels: of the images, 1 to 4; see ``rtseg.models.label_network.normalise`` for what they hold.

    Raises:
        OptionError: ``channels`` is out of range.
    """

    multiple: int = 32
    """Height and width of the input must be multiples of this, in pixels."""
    stride: int = 4
    """Of the logits that the evaluation mode returns: they are (H / stride, W / stride)."""
    auxiliary: tuple[str, ...] = ()
    """Names of the submodules that only training uses; inference does without their weights."""
    grown: tuple[str, ...] = ()
    """Names of the submodules that a checkpoint to begin with may lack: the network it is of does without them."""
    loss_weights: tuple[float, ...] = (1.0,)
    """Weight in the training loss of each output that the training mode returns."""
    coarse_labels: bool = False
    """Whether training compares each output with labels made as small as it, instead of enlarging the output."""
    recurrent: bool = False
    """Whether it is a sequence model: what it says of an image hangs on those before it. ``forward`` differs then."""
    architecture: str = ""
    """The text from which ``create_model`` makes this network again; it sets it."""

    def __init__(self, classes: int, channels: int = 3) -> None:
        super().__init__()
        if channels not in (1, 2, 3, 4):
            raise OptionError(f"a network takes images of 1 to 4 channels, got {channels}")
        self.classes = classes
        self.channels = channels

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Logits (N, classes, H / s, W / s) for float (N, channels, H, W); in training mode a tuple.

        The first of the tuple is the main prediction, with ``s = stride``; the others have strides of their own.

        A recurrent network is called with a second argument ``state``, float (N, D, h, w) of ``state_shape``, and
        returns the above and, behind it, the state that belongs to the next image. None stands for zeros: nothing
        has been seen yet.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def state_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(D, h, w) of the state of a recurrent network for images of (height, width), in pixels."""
        raise NotImplementedError(f"{type(self).__name__} keeps no state")

    def load_published(self) -> None:
        """Begin with the weights that torchvision publishes.

        Raises:
            OptionError: there are none for this network.
            CheckpointError: they cannot be fetched.
        """
        raise OptionError(f"nobody publishes weights for {self.architecture.partition(':')[0]!r}: leave out pretrained")

    def fix_size(self, height: int, width: int) -> None:
        """Before export at one input size: turn whatever depends on it into named buffers. Most networks have none."""

    def check_size(self, height: int, width: int, option: str = "--size") -> None:
        """Refuse an input size that the network cannot take.

        Raises:
            OptionError: height or width is no positive multiple of ``multiple``; the text names the nearest fit.
        """
        step = self.multiple
        if height < step or width < step or height % step or width % step:
            near = "x".join(str(max(1, round(v / step)) * step) for v in (height, width))
            name = type(self).__name__
            raise OptionError(f"{name} takes sizes in multiples of {step}, got {height}x{width}: try {option} {near}")
