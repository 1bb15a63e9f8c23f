"""Errors of reading data. Their messages are one line that names the file and what in it they are about."""

from vla.errors import UserError


class BadData(UserError):  # noqa: N818 - the name says what is bad
    """Something in a dataset can't be trained on; the message says where it is."""


class BadEpisode(BadData):
    """An episode (or a whole file of them) that can't be trained on, e.g. `a_demo.hdf5: demo_3: no 'actions'`."""


class BadExample(BadData):
    """A row of an annotation file that can't be trained on, e.g. `chat.json[17]: no such image: 0001/0.jpg`."""


class SampleError(UserError):
    """Reading one sample failed for a reason that the dataset doesn't know; the message names the sample and the cause.

    `details` is the traceback of the process that read it.
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


def one_line(error: BaseException) -> str:
    """The message of `error` without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__
