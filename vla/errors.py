"""The error that every room may raise for what the user can put right."""


class UserError(ValueError):
    """Something that the user can put right; the message is one line that says what to do.

    Scripts show it as `error: <message>` with exit code 2 and without a traceback. Rooms subclass it.
    """
