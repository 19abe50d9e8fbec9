"""The errors a user can meet. Each text names the thing and the next step.

RtsegError
├── OptionError (ValueError)            an option's value cannot be used
├── SourceError (OSError)               a source cannot be opened or read on
│   └── SourceNotFound                  there is nothing under that name
├── ModelError (ValueError)             a file is not a model, or breaks the contract of the model file
│   ├── CheckpointError                 a training checkpoint cannot be used
│   └── ProofError                      what was made of a model labels otherwise than it may: not kept, exit code 1
├── BackendError (RuntimeError)         a runtime failed on a model or a batch
│   └── BackendUnavailable              its package, driver or device is missing here
├── SinkError (OSError)                 a result cannot be written
│   └── SinkClosed                      the viewer closed the window: the run ends, nothing is wrong
├── DatasetError (ValueError)           training or evaluation data cannot be used
├── TrainingError (ArithmeticError)     training cannot go on: the loss is no number any more
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
    "SourceError",
    "SourceNotFound",
    "TrainingError",
]


class RtsegError(Exception):
    """Base of all errors that rtseg raises on purpose. Its text is one line, fit to be shown to a user."""

    def __str__(self) -> str:
        # OSError prints "[Errno ..]" for two arguments; ours always carry one sentence.
        return " ".join(str(argument) for argument in self.args)


class OptionError(RtsegError, ValueError):
    """An option has a value that cannot be used."""


class SourceError(RtsegError, OSError):
    """A source cannot be opened, or ended in a way that a user must know of."""


class SourceNotFound(SourceError):
    """Nothing exists under the name of the source."""


class ModelError(RtsegError, ValueError):
    """A file is no model file, or breaks its contract."""


class CheckpointError(ModelError):
    """A training checkpoint is missing, damaged or of another network."""


class ProofError(ModelError):
    """A graph or an engine made of a model labels too differently from it. It is not kept."""


class BackendError(RtsegError, RuntimeError):
    """A runtime failed; its own error is the cause."""


class BackendUnavailable(BackendError):
    """A runtime cannot be used on this machine; the text says what to install."""


class SinkError(RtsegError, OSError):
    """A result cannot be written."""


class SinkClosed(SinkError):
    """The viewer closed the window. The run ends in good order."""


class DatasetError(RtsegError, ValueError):
    """Data for training or evaluation is missing or wrong."""


class TrainingError(RtsegError, ArithmeticError):
    """Training cannot go on; the last good state is kept."""


class MissingExtra(RtsegError, ImportError):
    """An optional package is not installed."""

    @classmethod
    def of(cls, what: str, package: str | None, extra: str) -> MissingExtra:
        """The sentence for ``what`` that needs ``package``, brought by ``rtseg[extra]``."""
        return cls(f"{what} needs the package {package!r}: pip install 'rtseg[{extra}]'")
