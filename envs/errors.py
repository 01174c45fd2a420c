"""What a user did, told apart from what we did."""


class UserError(ValueError):
    """A mistake in what a user asked for; its one line names the field and says what was expected.

    The command line prints that line and exits with code 2. Every other exception is a fault of
    ours and keeps its traceback.
    """
