"""What other libraries' errors say, for errors of ours in one line."""


def first_line(error: BaseException) -> str:
    """The first line of an error, shortened; its type if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
