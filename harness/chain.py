"""Reads, writes and draws chains in the grammar of a Generation Chain-of-Thought (GoT-R1, arXiv 2505.17022).

A chain is English text in which every object has a box on the 0..1000 scale. It ends with begin-of-image:

    A <|obj_start|>vase<|obj_end|> <|box_start|>(202,482),(729,964)<|box_end|> on a table.<begin_of_image>

`format_chain` writes exactly this form. `parse` reads any text that a model sampled and lists its faults.
"""

from __future__ import annotations

import re
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from harness.types import CANVAS, Box, Chain, PlannedObject

OBJ_START = "<|obj_start|>"
OBJ_END = "<|obj_end|>"
BOX_START = "<|box_start|>"
BOX_END = "<|box_end|>"
END = "<begin_of_image>"

_TAG = re.compile("|".join(re.escape(tag) for tag in (OBJ_START, OBJ_END, BOX_START, BOX_END)))
_EXACT_BOX = re.compile(r"\([0-9]{1,4},[0-9]{1,4}\),\([0-9]{1,4},[0-9]{1,4}\)")
# Possessive quantifiers keep every match linear, whatever the noise.
_NUMBER = r"([-+]?[0-9]++(?:\.[0-9]++)?)"
_CORNER = rf"[(\[]?\s*+{_NUMBER}\s*+,\s*+{_NUMBER}\s*+[)\]]?"
_LOOSE_BOX = re.compile(rf"\s*+{_CORNER}\s*+,?\s*+{_CORNER}")
_CONTROL = re.compile(r"<[|｜][^|｜<>]*+[|｜]>")
_SPACES = re.compile(r"[ \t]{2,}+")


def without_control_tokens(text: str) -> str:
    """Return `text` with every `<|...|>` replaced by a space.

    Text for a judge must pass through this, because the judge's own control tokens have the same form.
    """
    return _CONTROL.sub(" ", text)


def format_chain(*parts: str | PlannedObject) -> str:
    """Return the exact chain of free text and objects, e.g. `format_chain("A ", vase, " on a table.")`.

    `parse` reads the same objects from it. It finds no fault unless an object has no box or an empty one.

    Raises:
        ValueError: a text or name holds a tag of the grammar, or a name is empty or padded with spaces.
    """
    written = []
    for part in parts:
        text = part if isinstance(part, str) else part.name
        if _TAG.search(text) or END in text:
            raise ValueError(
                f"{text!r} holds a tag of the chain grammar; give objects as PlannedObject, "
                "and format_chain adds the end"
            )
        if isinstance(part, str):
            written.append(part)
            continue
        if not part.name or part.name != part.name.strip():
            raise ValueError(f"object name {part.name!r} must be non-empty, without spaces around it")
        written.append(f"{OBJ_START}{part.name}{OBJ_END}")
        if part.box is not None:
            box = part.box
            written.append(f" {BOX_START}({box.x1},{box.y1}),({box.x2},{box.y2}){BOX_END}")
    chain = "".join(written)
    if len(_TAG.findall(chain)) != sum(_tags_of(part) for part in parts) or END in chain:
        raise ValueError(f"the parts join to a tag of the chain grammar: {chain!r}")
    return chain + END


def _tags_of(part: str | PlannedObject) -> int:
    if isinstance(part, str):
        return 0
    return 2 if part.box is None else 4


def parse(text: str) -> Chain:
    """Read a chain, however malformed, in linear time. Never raises.

    The reader is lenient. An object may lack its end tag if its box follows. A box may lack its end or
    its start tag. Corners are sorted. Boxes are rounded and clipped to 0..1000; they are None if they
    are unreadable or lie outside. An object that is never closed or has no name is dropped. Text after
    the first begin-of-image is ignored. `faults` lists all of these.
    """
    chain, end, rest = text.partition(END)
    reader = _Reader()
    tags = [None, *_TAG.findall(chain)]
    for tag, words in zip(tags, _TAG.split(chain), strict=True):
        reader.take(tag, words)
    reader.finish()
    if not end:
        reader.faults.append(f"the chain does not end with {END}")
    if rest.strip():
        reader.faults.append(f"text after {END}")
    bare = _SPACES.sub(" ", without_control_tokens("".join(reader.bare))).strip()
    objects = tuple(
        PlannedObject(name=name, box=box) for name, box in zip(reader.names, reader.boxes, strict=True)
    )
    return Chain(text=text, objects=objects, bare_text=bare, faults=tuple(reader.faults))


class _Reader:
    """Takes a chain tag by tag, each with the words up to the next tag."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.boxes: list[Box | None] = []
        self.bare: list[str] = []
        self.faults: list[str] = []
        self._open: str | None = None  # the words since an object's start tag
        self._waiting = False  # the last object has no box yet
        self._in_box = False

    def take(self, tag: str | None, words: str) -> None:
        if tag == OBJ_START:
            self._start_object(words)
        elif tag == OBJ_END:
            self._end_object(words)
        elif tag == BOX_START:
            self._start_box(words)
        elif tag == BOX_END:
            self._end_box(words)
        else:
            self.bare.append(words)

    def finish(self) -> None:
        self._leave_box()
        self._drop_open_object()
        self._leave_object()

    def _start_object(self, words: str) -> None:
        self._leave_box()
        self._drop_open_object()
        self._leave_object()
        self._open = words
        self.bare.append(words)

    def _end_object(self, words: str) -> None:
        self._leave_box()
        if self._open is None:
            self.faults.append(f"{OBJ_END} without {OBJ_START}")
        else:
            self._name_object()
        self.bare.append(words)

    def _start_box(self, words: str) -> None:
        self._leave_box()
        if self._open is not None:
            self.faults.append(f"object {len(self.names) + 1} has no {OBJ_END}")
            self._name_object()
        elif self._waiting and self.bare[-1].strip():
            self.faults.append(f"words between object {len(self.names)} and its box")
        self.bare[-1] = self.bare[-1].rstrip()
        match = _LOOSE_BOX.match(words)
        exact = match is not None and _EXACT_BOX.fullmatch(match.group()) is not None
        self._assign_box(match, exact=exact)
        self._in_box = True
        # Kept for a box that is never ended: the words after its coordinates continue the description.
        self.bare.append(words[match.end() :] if match else words)

    def _end_box(self, words: str) -> None:
        if self._in_box:
            self._in_box = False
            if self.bare.pop() and self.boxes and self.boxes[-1] is not None:
                self.faults.append(f"more than coordinates between {BOX_START} and {BOX_END}")
        else:
            self.faults.append(f"{BOX_END} without {BOX_START}")
            before = self.bare[-1]
            opening = before.rfind("(", 0, max(before.rfind("("), 0))
            match = _LOOSE_BOX.fullmatch(before, opening) if opening >= 0 else None
            if match is not None and self._open is None:
                self.bare[-1] = before[:opening].rstrip()
                self._assign_box(match, exact=True)
        self.bare.append(words)

    def _leave_box(self) -> None:
        if self._in_box:
            self.faults.append(f"{BOX_START} without {BOX_END}")
            self._in_box = False

    def _drop_open_object(self) -> None:
        if self._open is not None:
            self.faults.append(f"{OBJ_START} without {OBJ_END}: no object is read there")
            self._open = None

    def _leave_object(self) -> None:
        if self._waiting:
            self.faults.append(f"object {len(self.names)} has no box")
            self._waiting = False

    def _name_object(self) -> None:
        assert self._open is not None
        name = self._open.strip()
        self._open = None
        self._leave_object()
        if not name:
            self.faults.append("an object without a name")
            return
        self.names.append(name)
        self.boxes.append(None)
        self._waiting = True

    def _assign_box(self, match: re.Match[str] | None, *, exact: bool) -> None:
        """Give the last object the box that was read, and list the faults of that box."""
        if not self._waiting:
            self.faults.append("a second box of one object" if self.names else "a box without an object")
            return
        self._waiting = False
        number = len(self.names)
        if match is None:
            self.faults.append(f"the box of object {number} cannot be read")
            return
        if not exact:
            self.faults.append(f"the box of object {number} is not written as (x1,y1),(x2,y2)")
        self.boxes[-1] = self._box([float(value) for value in match.groups()], number)

    def _box(self, values: list[float], number: int) -> Box | None:
        left, right = sorted((values[0], values[2]))
        top, bottom = sorted((values[1], values[3]))
        if (left, top) != (values[0], values[1]):
            self.faults.append(f"the corners of object {number} are swapped")
        clipped = [round(min(max(value, 0), CANVAS)) for value in (left, top, right, bottom)]
        if min(left, top) < 0 or max(right, bottom) > CANVAS:
            if clipped[0] == clipped[2] or clipped[1] == clipped[3]:
                self.faults.append(f"the box of object {number} lies outside 0..{CANVAS}")
                return None
            self.faults.append(f"the box of object {number} reaches outside 0..{CANVAS}")
        box = Box(*clipped)
        if box.area == 0:
            self.faults.append(f"the box of object {number} is empty")
        return box


_COLORS = (
    "#c0392b",
    "#1f618d",
    "#1e8449",
    "#7d3c98",
    "#b9770e",
    "#148f77",
    "#5d4037",
    "#ad1457",
    "#34495e",
    "#566573",
)
_LABEL_LENGTH = 40  # characters; longer names are cut so that a label stays on the canvas
_LABELS_AVOIDED = 64  # a degenerate chain may hold thousands of boxes


def draw_layout(chain: Chain, size: int = 448) -> Image.Image:
    """Draw the chain's boxes with their names on a blank `size` x `size` canvas, for the spatial judge."""
    canvas = Image.new("RGB", (size, size), "white")
    _draw_boxes(canvas, chain)
    return canvas


def draw_overlay(image: Image.Image, chain: Chain, size: int = 384) -> Image.Image:
    """Draw the chain's boxes on a copy of the image.

    Small images are first enlarged by a whole factor, to about `size` pixels.
    """
    factor = max(1, size // max(image.size))
    enlarged = image.convert("RGB").resize(
        (image.width * factor, image.height * factor), Image.Resampling.NEAREST
    )
    _draw_boxes(enlarged, chain)
    return enlarged


def _draw_boxes(canvas: Image.Image, chain: Chain) -> None:
    draw = ImageDraw.Draw(canvas)
    line = max(1, canvas.width // 200)
    labels: list[tuple[int, int, int, int]] = []
    boxed = [planned for planned in chain.objects if planned.box is not None]
    corners = [_pixels(planned.box, canvas.size) for planned in boxed if planned.box is not None]
    for index, corner in enumerate(corners):
        draw.rectangle(corner, outline=_COLORS[index % len(_COLORS)], width=line)
    for index, (planned, corner) in enumerate(zip(boxed, corners, strict=True)):
        label = _label(planned.name, _COLORS[index % len(_COLORS)], max(10, canvas.width // 28))
        left, top = _free_position(label.size, corner, canvas.size, labels)
        labels = [*labels[-_LABELS_AVOIDED:], (left, top, left + label.width, top + label.height)]
        canvas.paste(label, (left, top))


def _pixels(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    right, bottom = size[0] - 1, size[1] - 1
    return (
        box.x1 * right // CANVAS,
        box.y1 * bottom // CANVAS,
        box.x2 * right // CANVAS,
        box.y2 * bottom // CANVAS,
    )


@lru_cache(maxsize=4)
def _font(height: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(height)


@lru_cache(maxsize=1024)
def _label(name: str, color: str, height: int) -> Image.Image:
    """Return white text on the box's color. Rendering text is the slowest step, so labels are cached."""
    font = _font(height)
    text = "".join(letter if letter.isprintable() else " " for letter in name)
    text = text if len(text) <= _LABEL_LENGTH else text[: _LABEL_LENGTH - 3] + "..."
    if isinstance(font, ImageFont.ImageFont):  # Pillow without FreeType: its bitmap font has only Latin-1
        text = text.encode("latin-1", "replace").decode("latin-1")
    left, top, right, bottom = font.getbbox(text)
    label = Image.new("RGB", (max(1, round(right - left)) + 4, max(1, round(bottom - top)) + 4), color)
    ImageDraw.Draw(label).text((2 - left, 2 - top), text, fill="white", font=font)
    return label


def _free_position(
    label: tuple[int, int],
    corner: tuple[int, int, int, int],
    canvas: tuple[int, int],
    taken: list[tuple[int, int, int, int]],
) -> tuple[int, int]:
    """Return the top left corner of a label.

    The label stands on the upper edge of its box, or moves down by its height until it covers no other label.
    """
    width, height = label
    left = max(0, min(corner[0], canvas[0] - width))
    first = corner[1] - height if corner[1] >= height else corner[1]
    for step in range(8):
        top = max(0, min(first + step * height, canvas[1] - height))
        if not any(_overlap((left, top, left + width, top + height), other) for other in taken):
            break
    return left, top


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return b[0] < a[2] and a[0] < b[2] and b[1] < a[3] and a[1] < b[3]
