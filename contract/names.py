"""Names that appear in topics, tags and files: what is allowed in them, in one place."""

import re
from typing import Annotated

from pydantic import AfterValidator

NAME_MAX_CHARS = 64
_NAME = re.compile(r"[\w.\-]+(?: [\w.\-]+)*")


def check_name(text: str) -> str:
    """`text` when it can be a topic level, a tag and a file name.

    Letters of any script, digits, `_ . -` and single inner spaces. Raises ValueError with what is allowed.
    """
    if not _NAME.fullmatch(text) or len(text) > NAME_MAX_CHARS or text.startswith("."):
        raise ValueError(
            f"a name is 1 to {NAME_MAX_CHARS} letters, digits, '_', '.', '-' or single inner spaces, "
            f"and does not start with '.'; found {text[:80]!r}"
        )
    return text


Name = Annotated[str, AfterValidator(check_name)]
