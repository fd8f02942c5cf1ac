"""Gymnasium's CarRacing-v3 with its small picture drawn some twenty times as fast; everything else is Gymnasium's own.

CarRacing's physics takes 0.1 ms a step, its picture 10: it turns the corners of the whole track in Python, fills polygons on
1000 x 800 pixels, and averages these to 96 x 96. Here only what is near is turned, all at once, and filled on 384 x 336
pixels, whose averages are the picture above the dashboard. Of 64 x 64 pixels they differ by 0.15 of 255 levels on average;
tests/test_carracing.py says where. Colours, zoom and the order of drawing are Gymnasium's.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
from gymnasium.envs.box2d import car_dynamics as car
from gymnasium.envs.box2d.car_racing import (
    GRASS_DIM, PLAYFIELD, SCALE, STATE_H, STATE_W, WINDOW_H, WINDOW_W, ZOOM, CarRacing,
)  # fmt: skip

VIEW_ROWS = 84  # of the picture; below them is the dashboard
FINE = 4  # pixels, a side, that each of the picture's is the mean of: a power of two
SIZE = STATE_W * FINE, VIEW_ROWS * FINE
MIDDLE = np.array(SIZE, np.float32) / 2
BITS = 4  # corners are placed to 1/16 of a pixel
SQUARE = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float32)
GRASS = GRASS_DIM * np.array([SQUARE + (x, y) for x in range(-20, 20, 2) for y in range(-20, 20, 2)], np.float32)
FIELD = PLAYFIELD * (2 * SQUARE[None] - 1)
WHEEL = car.SIZE * np.array((car.WHEEL_W, car.WHEEL_R), np.float32) * (2 * SQUARE[None] - 1)
BLACK = (0, 0, 0)
HULLS = (car.HULL_POLY1, car.HULL_POLY2, car.HULL_POLY3, car.HULL_POLY4)
HULL = car.SIZE * np.array([[*hull, *hull[-1:] * (8 - len(hull))] for hull in HULLS], np.float32)
HULL_COLOUR = 4 * [(202, 0, 0)]


class FastCarRacing(CarRacing):
    """An observation is what is above the dashboard, (84, 96, 3) uint8. `render` is Gymnasium's own.

    Continuous actions and the usual colours only.
    """

    def __init__(self, canvas: np.ndarray | None = None, **options: Any):
        """canvas: `new_canvas()`; games that take turns can share one. options: see CarRacing."""
        super().__init__(**options)
        self._canvas = new_canvas() if canvas is None else canvas

    def _create_track(self) -> bool:
        """Also keep what is to be drawn as arrays."""
        made = bool(super()._create_track())
        if made:
            self._pieces = np.concatenate([GRASS, np.array([corners for corners, _ in self.road_poly], np.float32)])
            self._centres = self._pieces.mean(axis=1)
            self._sizes = np.linalg.norm(self._pieces - self._centres[:, None], axis=2).max(axis=1, keepdims=True)
            self._touched = -1
        return made

    def _render(self, mode: str) -> Any:
        if mode != "state_pixels":
            return super()._render(mode)
        if self._touched != self.tile_visited_count:  # a piece of road that is touched is given another colour
            self._touched = self.tile_visited_count
            self._colours = darker([self.grass_color] * len(GRASS) + [colour for _, colour in self.road_poly])
        # From metres to pixels of the canvas: the car points up, in the middle, a quarter of the window from its lower edge.
        zoom = 0.1 * SCALE * max(1 - self.t, 0) + ZOOM * SCALE * min(self.t, 1)
        scale = zoom * FINE * np.array((STATE_W / WINDOW_W, STATE_H / WINDOW_H), np.float32)
        turn, place = rotation(-self.car.hull.angle) * (scale * (1, -1)), np.array(self.car.hull.position, np.float32)
        shift = FINE * np.array((STATE_W / 2, STATE_H * 3 / 4), np.float32) - 0.5 - place @ turn
        cv2.rectangle(self._canvas, (0, 0), SIZE, (0, 0, 0), cv2.FILLED)
        self._fill(FIELD @ turn + shift, darker([self.bg_color]))
        away = np.abs(self._centres @ turn + (shift - MIDDLE))
        near = np.flatnonzero((away < self._sizes * scale + MIDDLE).all(axis=1))
        self._fill(self._pieces[near] @ turn + shift, [self._colours[number] for number in near.tolist()])
        for wheel in self.car.wheels:
            self._fill(WHEEL @ (rotation(wheel.angle) @ turn) + (np.array(wheel.position, np.float32) @ turn + shift), [BLACK])
        self._fill(HULL @ (rotation(self.car.hull.angle) @ turn) + (place @ turn + shift), HULL_COLOUR)
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


def darker(colours: Sequence[Any]) -> list[tuple[int, ...]]:
    """As pygame's averaging leaves them, two levels lower."""
    return [*map(tuple, np.maximum(np.array(colours, int) - 2, 0).tolist())]


def rotation(angle: float) -> np.ndarray:
    """By which row vectors are turned anticlockwise, (2, 2) float32."""
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, sin], [-sin, cos]], np.float32)
