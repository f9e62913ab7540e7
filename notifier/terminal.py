"""Text that a terminal may be given."""


def printable(text: str) -> str:
    """Return one line that does nothing to a terminal: it may quote anybody's words."""
    return "".join(character if character.isprintable() else " " for character in text)
