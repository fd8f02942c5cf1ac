"""A frame as it goes to the page: what it is, in JSON, and its pictures.

Four bytes, big-endian, say how long the JSON is; it ends with `sizes`, the bytes of each picture that follows. Small pictures are PNG,
as they are; larger ones, which are only looked at, JPEG.
"""

import json
from typing import Any

import cv2
import numpy as np

SMALL = 100  # rows of a picture up to which it is sent as PNG
JPEG_QUALITY = 90


def pack_frame(about: dict[str, Any], pictures: list[np.ndarray]) -> bytes:
    """Pictures, each (h, w, 3) uint8 RGB, and what is to be said of them."""
    images = [encode(picture) for picture in pictures]
    header = json.dumps({**about, "sizes": [len(image) for image in images]}, separators=(",", ":")).encode()
    return b"".join([len(header).to_bytes(4, "big"), header, *images])


def encode(picture: np.ndarray) -> bytes:
    """One picture, (h, w, 3) uint8 RGB, as PNG or JPEG."""
    small = len(picture) <= SMALL
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1] if small else [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    bgr = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png" if small else ".jpg", bgr, options)[1].tobytes()
