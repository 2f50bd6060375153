"""The text of a question to a judge, read from a file that anybody can replace by one of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import Template

from harness.chain import without_control_tokens


class Rubric:
    """The text of a question, with `$prompt` (and `$chain`) where the sample's own text goes.

    `lead` is the number of characters at its beginning that are the same for all samples: the lines before the first
    placeholder's. Put what never changes first, so that a server computes it once.

    Args:
        name: a file of `folder` without its ending (`semantic`), or the path of a text file of one's own.
        fields: the placeholders the text must have, and may have.
        folder: where the named rubrics are.

    Raises:
        ValueError: no such file, or a placeholder is missing or unknown.
    """

    def __init__(self, name: str, *fields: str, folder: Path) -> None:
        own = Path(name)
        path = own if own.suffix else folder / f"{name}.txt"
        if not path.is_file():
            known = ", ".join(sorted(file.stem for file in folder.glob("*.txt")))
            raise ValueError(
                f"no rubric {name!r} (looked for {path}): give one of {known}, or the path of a .txt file"
            )
        text = path.read_text(encoding="utf-8")
        self.template = Template(text)
        if not self.template.is_valid() or set(self.template.get_identifiers()) != set(fields):
            wanted = ", ".join(f"${field}" for field in fields)
            raise ValueError(
                f"rubric {path} must hold the placeholders {wanted} and no other $ (write $$ for a dollar sign)"
            )
        first = min(
            found.start() for found in Template.pattern.finditer(text) if found["named"] or found["braced"]
        )
        self.lead = len(Template(text[: text.rfind("\n", 0, first) + 1]).substitute())

    def fill(self, values: Mapping[str, str]) -> str:
        """The question's text; control tokens in the values are taken out, since a judge would obey them."""
        return self.template.substitute(
            {key: without_control_tokens(value).strip() for key, value in values.items()}
        )
