"""The errors a user can cause: one sentence that names the thing, and a hint that can be pasted."""

import errno

# What the system says when a file cannot be written there: full, over a limit, or not allowed.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


class MTKitError(Exception):
    """What went wrong in one sentence, and what to do about it.

    The command line prints both and exits with `exit_code`; nothing else is caught there.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(MTKitError):
    """A command was called in a way that cannot be carried out."""


class RecipeError(MTKitError):
    """A recipe or one of its keys is wrong."""


class DataError(MTKitError):
    """A corpus cannot be read, or is not what it is said to be."""


class MissingFileError(DataError):
    """A file of a corpus is not there, and none is that it could be a slip for."""


class ModelError(MTKitError):
    """A model directory is incomplete, damaged or does not fit."""


class TrainingError(MTKitError):
    """Training cannot go on; what was reached so far is kept."""

    exit_code = 1
