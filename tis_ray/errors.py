"""The errors a user can cause. Each message names the field, what was expected and what came.

All are `ValueError`s: the command line turns them into one line and exit code 2, the service into a 4xx
answer. Anything else that escapes is a defect of tis-ray.
"""


class TisRayError(ValueError):
    """Base of every error below."""


class InputError(TisRayError):
    """An array, image or argument given to the library does not have the promised form."""


class ConfigError(TisRayError):
    """A recipe, ensemble or fusion section is wrong; the message starts with the key path."""


class CheckpointError(TisRayError):
    """A checkpoint directory is incomplete or does not fit its recipe."""


class DataError(TisRayError):
    """A data set, image file or results file is wrong."""


class ServiceError(TisRayError):
    """The service refused a request or could not be reached; `status` is the HTTP status or None."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
