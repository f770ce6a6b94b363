"""From a camera's image to what the vision towers read, as preprocessor_config.json says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vla_ros.errors import CheckpointError, UnknownNameError
from vla_ros.openvla.configuration import Tower

STRATEGIES = ("resize-naive", "resize-crop", "letterbox")
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR,
           "lanczos": Image.Resampling.LANCZOS}
CROPPED_AREA, CROPPED_SIZE = 0.9, 224  # share of the image, px: for models that were trained on random crops


@dataclass(frozen=True)
class View:
    """What one tower reads. size [px] of a side; mean, std (3,) of channels in [0, 1]."""

    size: int
    resampling: Image.Resampling
    mean: np.ndarray
    std: np.ndarray


@dataclass(frozen=True)
class ImageReader:
    """How images are brought to size.

    strategy: 'resize-naive' distorts to a square, 'resize-crop' cuts the longer side, 'letterbox' fills up the shorter.
    fill: (3,) 0..255, the colour beside a letterboxed image.
    """

    strategy: str
    views: tuple[View, ...]

    def __post_init__(self):
        if self.strategy not in STRATEGIES:
            raise UnknownNameError("image_resize_strategy", self.strategy, STRATEGIES)

    @property
    def fill(self) -> tuple[int, ...]:
        """The mean of the last tower, whichever the tower."""
        return tuple(int(channel * 255) for channel in self.views[-1].mean)

    def read(self, image: np.ndarray, crop: bool = False) -> list[Tensor]:
        """image: uint8 (H, W, 3) RGB of any size; crop: of its middle. A float32 (3, size, size) for each tower."""
        picture = Image.fromarray(centre_crop(image) if crop else np.asarray(image))
        if self.strategy == "letterbox":
            picture = letterbox(picture, self.fill)
        return [self._view(picture, view) for view in self.views]

    def _view(self, picture: Image.Image, view: View) -> Tensor:
        width, height = picture.size
        if self.strategy == "resize-naive":
            width = height = view.size
        else:
            shorter = min(width, height)
            width, height = (int(view.size * side / shorter) for side in (width, height))
        picture = picture.resize((width, height), view.resampling)
        left, top = round((width - view.size) / 2), round((height - view.size) / 2)
        picture = picture.crop((left, top, left + view.size, top + view.size))
        channels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
        mean, std = (torch.tensor(values, dtype=torch.float32).view(3, 1, 1) for values in (view.mean, view.std))
        return (channels - mean) / std


def letterbox(picture: Image.Image, fill: tuple[int, ...]) -> Image.Image:
    """As much on both sides as makes it a square, or one px less."""
    width, height = picture.size
    x, y = (max(0, other - side) // 2 for side, other in ((width, height), (height, width)))
    padded = Image.new("RGB", (width + 2 * x, height + 2 * y), fill)
    padded.paste(picture, (x, y))
    return padded


def centre_crop(image: np.ndarray) -> np.ndarray:
    """The middle of an image, uint8 (H, W, 3), CROPPED_AREA of its area, as (224, 224, 3). Its corners stay corners:
    they are sampled at pixels' centres, bilinearly, in float32 as the models were evaluated."""
    scale = np.float32(np.sqrt(np.float32(CROPPED_AREA)))
    begin = (1 - scale) / np.float32(2)
    rows, columns = (begin * np.float32(side - 1) + np.arange(CROPPED_SIZE, dtype=np.float32)
                     * (scale * np.float32(side - 1) / np.float32(CROPPED_SIZE - 1)) for side in image.shape[:2])
    values = image.astype(np.float32) * np.float32(1 / 255)
    top, left = rows.astype(int), columns.astype(int)
    bottom, right = (np.minimum(first + 1, side - 1) for first, side in ((top, image.shape[0]), (left, image.shape[1])))
    down, along = (rows - top)[:, None, None], (columns - left)[None, :, None]
    upper = values[top][:, left] + (values[top][:, right] - values[top][:, left]) * along
    lower = values[bottom][:, left] + (values[bottom][:, right] - values[bottom][:, left]) * along
    return (np.clip(upper + (lower - upper) * down, 0, 1) * np.float32(255.5)).astype(np.uint8)


def read_images(data: Any, towers: Sequence[Tower]) -> ImageReader:
    """Of the content of preprocessor_config.json. Raises CheckpointError or UnknownNameError."""
    if not isinstance(data, Mapping):
        raise CheckpointError("preprocessor_config.json must hold a mapping")
    lists = {key: data.get(key) for key in ("input_sizes", "interpolations", "means", "stds")}
    wrong = [key for key, value in lists.items() if not isinstance(value, list) or len(value) != len(towers)]
    if wrong:
        raise CheckpointError(f"preprocessor_config.json must have {', '.join(wrong)} for each of {len(towers)} towers")
    return ImageReader(data.get("image_resize_strategy", "letterbox"),
                       tuple(view(tower, *values) for tower, *values in zip(towers, *lists.values(), strict=True)))


def view(tower: Tower, size: Any, interpolation: Any, mean: Any, std: Any) -> View:
    wanted = [3, tower.image_size, tower.image_size]
    if size != wanted:
        raise CheckpointError(f"preprocessor_config.json makes images of {size}, config.json reads {wanted}")
    if interpolation not in FILTERS:
        raise UnknownNameError("interpolation of images", interpolation, FILTERS)
    try:
        mean, std = np.array(mean, float), np.array(std, float)
    except (TypeError, ValueError):
        mean = std = np.zeros(0)
    if mean.shape != (3,) or std.shape != (3,) or not (np.isfinite(mean).all() and (std > 0).all()):
        raise CheckpointError("preprocessor_config.json: means and stds must be three numbers a tower, stds above 0")
    return View(tower.image_size, FILTERS[interpolation], mean, std)
