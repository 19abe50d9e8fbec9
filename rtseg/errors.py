"""The exceptions of rtseg. Each message names the problem and the next step.

RtsegError
├── OptionError (ValueError)            the value of an option is invalid
├── SourceError (OSError)               a source cannot be opened, or failed while it was read
│   ├── SourceNotFound                  there is no such source
│   ├── SourceDenied                    it refuses access
│   └── SourceStalled                   it sends nothing any more, or does not answer
├── ModelError (ValueError)             a file is not a model file, or violates its format
│   ├── CheckpointError                 a training checkpoint cannot be used
│   └── ProofError                      a converted model predicts too differently: discarded, exit code 1
├── BackendError (RuntimeError)         a runtime failed on a model or a batch
│   └── BackendUnavailable              its package, driver or device is missing on this machine
├── SinkError (OSError)                 a result cannot be written
│   └── SinkClosed                      the user closed the window: the run ends without an error
├── DatasetError (ValueError)           training or evaluation data is missing or invalid
├── TrainingError (ArithmeticError)     training cannot continue: the loss is NaN or infinite
└── MissingExtra (ImportError)          an optional package is not installed
"""

from __future__ import annotations

__all__ = [
    "BackendError",
    "BackendUnavailable",
    "CheckpointError",
    "DatasetError",
    "MissingExtra",
    "ModelError",
    "OptionError",
    "ProofError",
    "RtsegError",
    "SinkClosed",
    "SinkError",
    "SourceDenied",
    "SourceError",
    "SourceNotFound",
    "SourceStalled",
    "TrainingError",
]


class RtsegError(Exception):
    """Base class of all exceptions that rtseg raises. The message is one line that can be shown to users."""

    def __str__(self) -> str:
        # OSError would format two arguments as "[Errno ..]".
        return " ".join(str(argument) for argument in self.args)


class OptionError(RtsegError, ValueError):
    """The value of an option is invalid."""


class SourceError(RtsegError, OSError):
    """A source cannot be opened, or failed while it was read."""


class SourceNotFound(SourceError):
    """There is no such source."""


class SourceDenied(SourceError):
    """A source refuses access: user name or password are wrong."""


class SourceStalled(SourceError):
    """A source does not answer, or sends no frames any more."""

    is_back = False
    """Whether its server was away and answers again, so that it is worth another try at once."""


class ModelError(RtsegError, ValueError):
    """A file is not a model file, or violates its format."""


class CheckpointError(ModelError):
    """A training checkpoint is missing, damaged or made by another network."""


class ProofError(ModelError):
    """The labels of a converted model or engine differ too much from those of the original. It is discarded."""


class BackendError(RtsegError, RuntimeError):
    """A runtime failed. Its own error is the ``__cause__``."""


class BackendUnavailable(BackendError):
    """A runtime cannot be used on this machine. The message says what to install."""


class SinkError(RtsegError, OSError):
    """A result cannot be written."""


class SinkClosed(SinkError):
    """The user closed the window. The run ends without an error."""


class DatasetError(RtsegError, ValueError):
    """Training or evaluation data is missing or invalid."""


class TrainingError(RtsegError, ArithmeticError):
    """Training cannot continue. The last good checkpoint is kept."""


class MissingExtra(RtsegError, ImportError):
    """An optional package is not installed."""

    @classmethod
    def for_feature(cls, feature: str, package: str | None, extra: str) -> MissingExtra:
        """Create the error for a ``feature`` that needs ``package``, which ``rtseg[extra]`` installs."""
        return cls(f"{feature} needs the package {package!r}: pip install 'rtseg[{extra}]'")
