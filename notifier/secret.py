"""A text that nobody is to see by accident."""


class SecretStr:
    """Holds a secret; a log line, a report and a traceback show *** in its place."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Take the secret."""
        self._text = text

    def get_secret_value(self) -> str:
        """Return the secret itself."""
        return self._text

    def __repr__(self) -> str:
        """Return what stands for it."""
        return "***"
