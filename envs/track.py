"""Gymnasium's CarRacing-v3 with its small picture drawn ten to twenty times as fast; everything else is Gymnasium's own.

The physics takes 0.1 ms a step, and the picture 10: all corners of the track are turned in Python, polygons filled on
1000 x 800 pixels, and those averaged to 96 x 96. Here only what is near is turned, all at once, and filled on 384 x 336
pixels, whose averages are the picture above the dashboard. Colours, zoom and the order of drawing are Gymnasium's; only
the light marks on the wheels, which show that they turn, are spread over them. In 64 x 64 pixels the two differ by 0.1 of
255 levels on average; tests/test_carracing.py holds them against each other.
"""

import math
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
from gymnasium.envs.box2d import car_dynamics as car
from gymnasium.envs.box2d import car_racing as own

from envs.carracing import VIEW_ROWS

FINE = 4  # pixels, a side, of which each of the picture's is the mean: a power of two
SIZE = own.STATE_W * FINE, VIEW_ROWS * FINE
MIDDLE = np.array(SIZE, np.float32) / 2
STANDS = FINE * np.array((own.STATE_W / 2, own.STATE_H * 3 / 4), np.float32) - 0.5
"""Where the car is on the canvas: a quarter of the window from its lower edge. Pixels are counted from their middles."""
SHRUNK = np.array((own.STATE_W / own.WINDOW_W, own.STATE_H / own.WINDOW_H), np.float32)
BITS = 4  # corners are placed to 1/16 of a pixel
GROWN = 0.045
"""Metres by which a polygon's edges are filled too far out: half a pixel here, less half a pixel of the 1000 x 800."""


def drawn(polygons: Any) -> np.ndarray:
    """Polygons (N, corners, 2) in metres, float32, as they have to be filled to come out in their true size."""
    polygons = np.asarray(polygons, np.float32)
    ends = polygons.min(axis=1, keepdims=True), polygons.max(axis=1, keepdims=True)
    return polygons - np.float32(GROWN) * np.sign(polygons - (ends[0] + ends[1]) / 2)


SQUARE = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float32)
FIELD = own.PLAYFIELD * (2 * SQUARE[None] - 1)
GRASS = drawn([own.GRASS_DIM * (SQUARE + (x, y)) for x in range(-20, 20, 2) for y in range(-20, 20, 2)])
# The car as it stands at the origin.
WHEEL = drawn([(2 * SQUARE - 1) * (car.WHEEL_W * car.SIZE, car.WHEEL_R * car.SIZE)])
HULLS = (car.HULL_POLY1, car.HULL_POLY2, car.HULL_POLY3, car.HULL_POLY4)
WHEEL_COLOUR, HULL_COLOUR = [(14, 14, 14)], 4 * [(202, 0, 0)]  # black, and the marks' share
HULL = drawn([car.SIZE * np.array([*hull, *hull[-1:] * (8 - len(hull))]) for hull in HULLS])


class FastCarRacing(own.CarRacing):
    """An observation is what is above the dashboard, (84, 96, 3) uint8. `render` is Gymnasium's own.

    For continuous actions and the usual colours.
    """

    def __init__(self, canvas: np.ndarray, **options: Any):
        """canvas: `new_canvas()`; games that take turns can share one. options: see CarRacing."""
        super().__init__(**options)
        self._canvas = canvas

    def _create_track(self) -> bool:
        """Also keep what is to be drawn as arrays."""
        made = bool(super()._create_track())
        if made:
            self._pieces = np.concatenate([GRASS, drawn([corners for corners, _ in self.road_poly])])
            self._centres = self._pieces.mean(axis=1)
            self._sizes = np.linalg.norm(self._pieces - self._centres[:, None], axis=2).max(axis=1, keepdims=True)
            self._touched = -1
        return made

    def _render(self, mode: str) -> Any:
        if mode != "state_pixels":
            return super()._render(mode)
        if self._touched != self.tile_visited_count:  # the road that is touched has another colour from then on
            self._touched = self.tile_visited_count
            self._colours = darker([self.grass_color] * len(GRASS) + [colour for _, colour in self.road_poly])
        assert self.car is not None
        hull = self.car.hull
        # From metres to pixels of the canvas: the car points up.
        zoom = 0.1 * own.SCALE * max(1 - self.t, 0) + own.ZOOM * own.SCALE * min(self.t, 1)
        scale = zoom * FINE * SHRUNK
        turn = rotation(-hull.angle) * (scale * (1, -1))
        shift = STANDS - np.array(hull.position, np.float32) @ turn
        cv2.rectangle(self._canvas, (0, 0), SIZE, (0, 0, 0), cv2.FILLED)
        self._fill(FIELD @ turn + shift, darker([self.bg_color]))
        away = np.abs(self._centres @ turn + (shift - MIDDLE))
        near = np.flatnonzero((away < self._sizes * scale + MIDDLE).all(axis=1))
        self._fill(self._pieces[near] @ turn + shift, [self._colours[number] for number in near.tolist()])
        parts = [*((wheel, WHEEL, WHEEL_COLOUR) for wheel in self.car.wheels), (hull, HULL, HULL_COLOUR)]
        for body, polygons, colours in parts:
            place = np.array(body.position, np.float32) @ turn + shift
            self._fill(polygons @ (rotation(body.angle) @ turn) + place, colours)
        picture = self._canvas
        while picture.shape[0] > VIEW_ROWS:  # for halves OpenCV has a way of its own, twice as fast
            picture = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        return picture

    def _fill(self, polygons: np.ndarray, colours: Iterable[tuple[int, ...]]) -> None:
        """Draw convex polygons (N, corners, 2), in pixels of the canvas."""
        for polygon, colour in zip(np.rint(polygons * 2**BITS).astype(np.int32), colours, strict=True):
            cv2.fillConvexPoly(self._canvas, polygon, colour, shift=BITS)


def new_canvas() -> np.ndarray:
    """What is drawn on."""
    return np.empty((*SIZE[::-1], 3), np.uint8)


def darker(colours: list[Any]) -> list[tuple[int, ...]]:
    """As pygame's averaging leaves them, two levels lower."""
    return [*map(tuple, np.maximum(np.array(colours, int) - 2, 0).tolist())]


def rotation(angle: float) -> np.ndarray:
    """By which row vectors are turned anticlockwise, (2, 2) float32."""
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, sin], [-sin, cos]], np.float32)
