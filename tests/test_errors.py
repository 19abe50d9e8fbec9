from __future__ import annotations

import inspect

import pytest

from rtseg import errors
from rtseg.errors import MissingExtra, RtsegError, SourceError

TREE = {
    "OptionError": (RtsegError, ValueError),
    "SourceError": (RtsegError, OSError),
    "SourceNotFound": (SourceError,),
    "SourceDenied": (SourceError,),
    "SourceStalled": (SourceError,),
    "ModelError": (RtsegError, ValueError),
    "CheckpointError": (errors.ModelError,),
    "ProofError": (errors.ModelError,),
    "BackendError": (RtsegError, RuntimeError),
    "BackendUnavailable": (errors.BackendError,),
    "SinkError": (RtsegError, OSError),
    "SinkClosed": (errors.SinkError,),
    "DatasetError": (RtsegError, ValueError),
    "TrainingError": (RtsegError, ArithmeticError),
    "MissingExtra": (RtsegError, ImportError),
}


@pytest.mark.parametrize("name", sorted(TREE))
def test_an_error_derives_from_rtseg_error_and_a_matching_built_in(name: str) -> None:
    assert getattr(errors, name).__bases__ == TREE[name]


def test_the_tree_drawn_in_the_module_has_every_error_and_no_other() -> None:
    made = {name for name, member in inspect.getmembers(errors, inspect.isclass) if issubclass(member, RtsegError)}
    assert made == {*TREE, "RtsegError"} == set(errors.__all__)
    drawn = errors.__doc__ or ""
    assert all(name in drawn for name in made)


@pytest.mark.parametrize("name", sorted({*TREE, "RtsegError"}))
def test_the_text_of_an_error_is_its_message_also_for_os_errors(name: str) -> None:
    error = getattr(errors, name)("cannot read clip.mp4: give another file")
    assert str(error) == "cannot read clip.mp4: give another file"


def test_an_error_with_two_arguments_does_not_turn_into_an_errno() -> None:
    assert str(SourceError("clip.mp4", "is damaged")) == "clip.mp4 is damaged"


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    error = MissingExtra.for_feature("training", "torch", "train")
    assert str(error) == "training needs the package 'torch': pip install 'rtseg[train]'"
