"""Every error a user is meant to read: one sentence with what was given, what is allowed and the way out."""

__all__ = [
    "CosytuneError",
    "DataError",
    "InputError",
    "MachineError",
    "MissingPackageError",
    "ModelError",
    "StoppedError",
    "TrainingError",
]


class CosytuneError(Exception):
    """Root of all errors raised on purpose; the command line prints the message and exits with `exit_status`."""

    exit_status = 1


class InputError(CosytuneError):
    """An argument, a text or a file that the user gave cannot be used."""

    exit_status = 2


class DataError(CosytuneError):
    """Recordings, transcripts or a prepared corpus cannot be used."""

    exit_status = 3


class ModelError(CosytuneError):
    """A model folder, a checkpoint or a configuration cannot be used."""

    exit_status = 4


class TrainingError(CosytuneError):
    """A training run cannot start, go on or be resumed."""

    exit_status = 5


class StoppedError(CosytuneError):
    """SIGTERM came; what was done is saved and the same command goes on."""

    exit_status = 143  # as shells have it: 128 + SIGTERM


class MissingPackageError(CosytuneError):
    """An optional package is needed and not installed; the message holds the command that installs it."""

    exit_status = 6


class MachineError(CosytuneError):
    """This machine cannot do what was asked; another one can."""

    exit_status = 7
