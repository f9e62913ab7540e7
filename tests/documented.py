"""What the documentation says that the programs say."""

import re
from pathlib import Path

_PAGE = (Path(__file__).parents[1] / "docs" / "connection-strings.md").read_text("utf-8")
# the messages of its tables
DOCUMENTED = re.findall("`(.*?)`", "\n".join(re.findall(r"^\| (`.*?`) \|", _PAGE, re.MULTILINE)))
