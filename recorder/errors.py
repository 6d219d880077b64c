"""Every error this project raises on purpose.

    RecorderError                   exit 1: something is wrong with a run or its record
    ├── BundleError                 the bundle's own content is broken or unreadable
    ├── RecordingError              the record could not be written (disk full, folder not writable)
    ├── TrackingError               DVC's cache or a remote did not take or give what it should; training goes on
    ├── TransferError               a place for releases did not take or give what it should
    ├── RunFailed                   training ended without finishing
    │   └── NonFiniteError          loss or gradients became NaN or infinite and the policy is to stop
    ├── UsageError                  exit 2: the request cannot be carried out as it was put
    │   ├── ConfigError             a configuration key or value is not allowed
    │   ├── DataError               an input file is missing, unreadable or unfit
    │   └── RunNotFound             no bundle answers to that name
    └── MachineError                exit 3: this machine lacks what the request needs

The command line maps them to exit codes in one place, by `exit_code`. A message is one line that names what is
wrong, what is allowed, and how to mend it.
"""

from __future__ import annotations


class RecorderError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what a command ends with."""

    exit_code = 1


class BundleError(RecorderError):
    """The bundle's own content is broken or unreadable."""


class RecordingError(RecorderError):
    """The record could not be written."""


class TrackingError(RecorderError):
    """DVC's cache or a remote did not take or give what it should."""


class TransferError(RecorderError):
    """A place for releases did not take or give what it should."""


class RunFailed(RecorderError):
    """Training ended without finishing."""


class NonFiniteError(RunFailed):
    """Loss or gradients became NaN or infinite and the policy is to stop."""


class UsageError(RecorderError):
    """The request cannot be carried out as it was put."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration key or value is not allowed."""


class DataError(UsageError):
    """An input file is missing, unreadable or unfit."""


class RunNotFound(UsageError):
    """No bundle answers to that name."""


class MachineError(RecorderError):
    """This machine lacks what the request needs."""

    exit_code = 3
