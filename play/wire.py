"""A frame as it goes to the page: what it is, in JSON, and its pictures.

Four bytes, big-endian, say how long the JSON is; it ends with `sizes`, the bytes of each picture that follows. Small pictures are PNG,
as they are; larger ones, which are only looked at, JPEG.
"""

import json
from typing import Any

import cv2
import numpy as np

SMALL = 100
"""Rows of a picture up to which it is sent as PNG."""
JPEG_QUALITY = 90


def pack_frame(about: dict[str, Any], pictures: list[np.ndarray]) -> bytes:
    """Pictures, each (h, w, 3) uint8 RGB, and what is to be said of them."""
    images = [encode(picture) for picture in pictures]
    header = json.dumps({**about, "sizes": [len(image) for image in images]}, separators=(",", ":")).encode()
    return b"".join([len(header).to_bytes(4, "big"), header, *images])


def unpack_frame(packed: bytes) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The other way."""
    first = 4 + int.from_bytes(packed[:4], "big")
    about = json.loads(packed[4:first])
    pictures = []
    for size in about["sizes"]:
        image = cv2.imdecode(np.frombuffer(packed[first : first + size], np.uint8), cv2.IMREAD_COLOR)
        assert image is not None, "it is what `encode` made"
        pictures.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        first += size
    return about, pictures


def encode(picture: np.ndarray) -> bytes:
    """One picture, (h, w, 3) uint8 RGB, as PNG or JPEG."""
    small = len(picture) <= SMALL
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1] if small else [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    bgr = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png" if small else ".jpg", bgr, options)[1].tobytes()
