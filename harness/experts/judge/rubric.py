"""The text of a question to a judge, read from a file that users can replace by their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import Template

from harness.chain import without_control_tokens
from harness.files import read_user_text
from harness.paths import user_path


class Rubric:
    """The text of a question, with placeholders `$prompt` (and `$chain`) for the sample's text.

    `lead` is the number of characters at its beginning that are the same for all samples: the lines before
    the first placeholder. Put the fixed text first, so that a server computes it once. `external` holds the
    path of your own file, which counts by content; named rubrics count with the module that declares them.

    Args:
        name: a file in `folder` without its ending (`semantic`), or the path of your own text file.
        fields: the placeholders of the text, exactly these.
        folder: the folder of the named rubrics.

    Raises:
        ValueError: there is no such file, it is not UTF-8, or a placeholder is missing or unknown.
    """

    def __init__(self, name: str, *fields: str, folder: Path) -> None:
        own = bool(Path(name).suffix)
        path = user_path(name) if own else folder / f"{name}.txt"
        self.external = (str(path),) if own else ()
        if not path.is_file():
            known = ", ".join(sorted(file.stem for file in folder.glob("*.txt")))
            raise ValueError(
                f"no rubric {name!r} (looked for {path}): give one of {known}, or the path of a .txt file"
            )
        text = read_user_text(path)
        self.template = Template(text)
        if not self.template.is_valid() or set(self.template.get_identifiers()) != set(fields):
            wanted = ", ".join(f"${field}" for field in fields)
            raise ValueError(
                f"rubric {path} must hold the placeholders {wanted} and no other $"
                " (write $$ for a dollar sign)"
            )
        placeholders = [
            match for match in Template.pattern.finditer(text) if match["named"] or match["braced"]
        ]
        first_line_end = text.rfind("\n", 0, placeholders[0].start()) + 1
        self.lead = len(Template(text[:first_line_end]).substitute())

    def fill(self, values: Mapping[str, str]) -> str:
        """The question's text. Control tokens are removed from the values: a judge would obey them."""
        cleaned = {key: without_control_tokens(value).strip() for key, value in values.items()}
        return self.template.substitute(cleaned)
