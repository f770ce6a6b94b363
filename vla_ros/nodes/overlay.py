"""Where the policy looks, as a picture for people: the camera's image enlarged, crosshairs, what it says. No ROS."""

from __future__ import annotations

import cv2
import numpy as np

from vla_ros.types import ActionChunk, Look

WIDTH = 384  # [px] that a picture has at least: an image is enlarged by a whole number
COLOURS = {"target": (60, 255, 60), "reference": (80, 190, 255)}  # RGB
INK, GREY, WARNING, PAPER = (235, 235, 235), (170, 170, 170), (255, 110, 90), (24, 24, 28)
FONT, SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.45  # its letters are ASCII; others show as question marks
LINE, MARGIN = 18, 8  # [px] of a line of text, around the text
ARM, GAP = 12, 4  # [px] of a crosshair: length of its arms, and from where they begin


def enlargement(width: int) -> int:
    """How many pixels of the picture, in a row, one pixel of an image of `width` [px] becomes."""
    return max(1, -(-WIDTH // width))


def look_image(image: np.ndarray, chunk: ActionChunk, instruction: str) -> np.ndarray:
    """uint8 (k H + caption, k W, 3) RGB, k = enlargement(W), of the image (H, W, 3) that a chunk answers.

    The caption holds the instruction, and what the policy says or why it refuses.
    """
    k = enlargement(image.shape[1])
    picture = np.ascontiguousarray(image.repeat(k, axis=0).repeat(k, axis=1))
    for look in chunk.looks:
        if np.isfinite([look.u, look.v]).all():
            draw_crosshair(picture, look, k)
    return np.vstack([picture, caption(picture.shape[1], [(f'"{instruction}"', INK), verdict(chunk)])])


def place(look: Look, k: int) -> tuple[int, int]:
    """(x, y) [px] of a look in a picture enlarged by k. The centre of a pixel stays the centre; kept on any canvas."""
    x, y = (np.array([look.u, look.v]) + 0.5) * k - 0.5
    return int(np.clip(np.floor(x + 0.5), -10_000, 10_000)), int(np.clip(np.floor(y + 0.5), -10_000, 10_000))


def draw_crosshair(picture: np.ndarray, look: Look, k: int) -> None:
    """A ring and four arms that leave the centre free, and the look's name; dark edges show it on every ground."""
    x, y = place(look, k)
    colour = COLOURS.get(look.name, INK)
    for shade, width in ((PAPER, 3), (colour, 1)):
        cv2.circle(picture, (x, y), ARM - GAP, shade, width)
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            cv2.line(picture, (x + GAP * dx, y + GAP * dy), (x + ARM * dx, y + ARM * dy), shade, width)
    words = f"{ascii_of(look.name)} {100 * look.confidence:.0f} %"
    wide = text_width(words)
    left = x + ARM + 4 if x + ARM + 4 + wide <= picture.shape[1] else x - ARM - 4 - wide
    base = max(LINE, y - GAP)
    cv2.rectangle(picture, (left - 2, base - LINE + 4), (left + wide + 2, base + 4), PAPER, cv2.FILLED)
    cv2.putText(picture, words, (left, base), FONT, SIZE, colour, 1, cv2.LINE_AA)


def verdict(chunk: ActionChunk) -> tuple[str, tuple[int, int, int]]:
    """What came of the look, and its colour."""
    if chunk.refusal:
        return f"refused: {chunk.refusal}", WARNING
    return f"{chunk.text or 'it acts'} ({100 * chunk.confidence:.0f} % sure)", GREY


def caption(width: int, parts: list[tuple[str, tuple[int, int, int]]]) -> np.ndarray:
    """(H, width, 3): texts in their colours below each other, wrapped."""
    lines = [(line, colour) for text, colour in parts for line in wrapped(ascii_of(text), width - 2 * MARGIN)]
    sheet = np.full((LINE * len(lines) + MARGIN, width, 3), PAPER, np.uint8)
    for i, (line, colour) in enumerate(lines):
        cv2.putText(sheet, line, (MARGIN, LINE * (i + 1) - 2), FONT, SIZE, colour, 1, cv2.LINE_AA)
    return sheet


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width` [px], but for single words that are longer."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and text_width(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def text_width(text: str) -> int:
    """[px]"""
    return cv2.getTextSize(text, FONT, SIZE, 1)[0][0]


def ascii_of(text: str) -> str:
    return text.encode("ascii", "replace").decode()
