"""The one exception whose message is meant for the user."""


class ReconpatchError(Exception):
    """Bad input. The message names the file or key, the value and the fix; it is shown without a traceback."""
