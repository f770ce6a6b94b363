"""An episode for people to look at: an MP4 and a contact sheet. Frames are uint8 (H, W, 3) RGB."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK, PAPER = (235, 235, 235), (24, 24, 28)
TEXT = 16  # [px] height of letters
LINE = 22  # [px]
MARGIN = 8  # [px]


def resized(frame: np.ndarray, height: int) -> np.ndarray:
    """(height, W', 3) in the same proportions; enlarged pixels stay square."""
    width = round(frame.shape[1] * height / frame.shape[0])
    how = Image.Resampling.NEAREST if height > frame.shape[0] else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(frame).resize((width, height), how))


def side_by_side(frames: Sequence[np.ndarray], height: int) -> np.ndarray:
    """(height, sum of widths, 3)"""
    return np.concatenate([resized(frame, height) for frame in frames], axis=1)


def captioned(frame: np.ndarray, lines: Sequence[str]) -> np.ndarray:
    """(H + room for the lines, W, 3): the lines below the frame, cut where they do not fit."""
    height, width, _ = frame.shape
    sheet = Image.new("RGB", (width, height + LINE * len(lines) + MARGIN), PAPER)
    sheet.paste(Image.fromarray(frame))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    for i, line in enumerate(lines):
        while line and draw.textlength(line, font) > width - 2 * MARGIN:
            line = line[:-1]
        draw.text((MARGIN, height + MARGIN // 2 + i * LINE), line, INK, font)
    return np.asarray(sheet)


def contact_sheet(frames: Sequence[np.ndarray], caption: Sequence[str], columns: int = 4, rows: int = 2) -> np.ndarray:
    """rows x columns frames of equal size, evenly spread over the episode with its first and last, above a caption."""
    picks = np.linspace(0, len(frames) - 1, rows * columns).round().astype(int)
    tiles = [frames[i] for i in picks]
    grid = np.concatenate([np.concatenate(tiles[r * columns:(r + 1) * columns], axis=1) for r in range(rows)])
    return captioned(grid, caption)


def write_png(file: Path, image: np.ndarray) -> None:
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(file)


def write_mp4(file: Path, frames: Sequence[np.ndarray], rate: float) -> None:
    """rate: frames a second. h264 in yuv420p, which every player opens; odd sizes are padded to even ones."""
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    height, width, _ = frames[0].shape
    even = ((0, height % 2), (0, width % 2), (0, 0))
    writer = imageio_ffmpeg.write_frames(str(file), (width + width % 2, height + height % 2), fps=rate, codec="libx264",
                                         pix_fmt_out="yuv420p", macro_block_size=1, ffmpeg_log_level="error")
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(np.pad(frame, even, mode="edge")))
    writer.close()
