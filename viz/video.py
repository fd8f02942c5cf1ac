"""Videos: MP4 that every browser plays, and a small GIF beside it."""

import contextlib
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO

import cv2
import imageio_ffmpeg
import numpy as np

from experiment.files import atomic
from viz.frames import Labelled
from viz.text import text_image

CAPTION = 28  # height of a caption in pixels
GAP = 4  # pixels between two videos
GIF_FPS = 12.0
GIF_FRAMES, GIF_WIDTH = 120, 400  # at most
H264 = "-vcodec libx264 -pix_fmt yuv420p -crf 18 -preset veryfast -tune animation -movflags +faststart"


def save_video(stem: Path | str, frames: Iterable[np.ndarray], fps: float) -> None:
    """Write stem.mp4 (H.264, yuv420p) and stem.gif.

    frames: (T, H, W, 3) uint8, or anything that yields (H, W, 3): they are not kept in memory. Odd heights and
    widths grow by one pixel, since yuv420p has none. The GIF shows every k-th frame, such that there are at
    most GIF_FRAMES, at no less than 12 a second: a long video is fast-forwarded.
    """
    mp4, gif = (Path(f"{stem}{suffix}") for suffix in (".mp4", ".gif"))
    with atomic(mp4) as video, atomic(gif) as animation:
        count = _write_mp4(video, frames, fps)
        _write_gif(video, animation, count, fps, GIF_FRAMES, GIF_WIDTH)


def save_mp4(path: Path | str, frames: Iterable[np.ndarray], fps: float) -> None:
    """Write the MP4 alone, as save_video does, while the frames come."""
    with atomic(path) as video:
        _write_mp4(video, frames, fps)


def save_gif(path: Path | str, frames: Iterable[np.ndarray], fps: float, most: int, width: int) -> None:
    """Write the GIF alone, as save_video does, of at most so many frames, and so many pixels wide."""
    with tempfile.TemporaryDirectory() as folder, atomic(path) as animation:
        video = Path(folder) / "video.mp4"
        _write_gif(video, animation, _write_mp4(video, frames, fps), fps, most, width)


def side_by_side(videos: Labelled, scale: float = 4) -> Iterator[np.ndarray]:
    """Put videos next to each other, each under its label; yields (H, W, 3) uint8, one frame after the other.

    All are brought to the largest h times `scale`, keeping their proportions. One that ends before the others stays on
    its last frame, darkened.
    """
    height = round(scale * max(video.shape[1] for video in videos.values()))
    widths = [round(video.shape[2] * height / video.shape[1]) for video in videos.values()]
    captions = [text_image(label, width, CAPTION, 16) for label, width in zip(videos, widths, strict=True)]
    between = np.full((CAPTION + height, GAP, 3), 255, np.uint8)
    for t in range(max(map(len, videos.values()))):
        parts: list[np.ndarray] = []
        for video, caption in zip(videos.values(), captions, strict=True):
            frame = np.ascontiguousarray(video[min(t, len(video) - 1)])
            frame = cv2.resize(frame, (caption.shape[1], height), interpolation=cv2.INTER_NEAREST)
            parts += [between, np.concatenate([caption, frame if t < len(video) else frame // 3])]
        yield np.concatenate(parts[1:], axis=1)


def _write_mp4(path: Path, frames: Iterable[np.ndarray], fps: float) -> int:
    """Encode the frames and return how many there were. crf 18 is hardly told from the original."""
    encoder, count = None, 0
    with contextlib.ExitStack() as stack:
        for frame in frames:
            if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
                raise ValueError(f"a frame must be uint8 with shape (H, W, 3), not {frame.dtype} with {frame.shape}")
            frame = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")
            if encoder is None:
                size, rate = f"{frame.shape[1]}x{frame.shape[0]}", str(Fraction(fps).limit_denominator())
                given = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", rate, "-i", "-"]
                encoder = stack.enter_context(_ffmpeg(path, *given, *H264.split()))
            encoder.write(np.ascontiguousarray(frame).data)
            count += 1
    if not count:
        raise ValueError("a video needs at least one frame")
    return count


def _write_gif(mp4: Path, gif: Path, count: int, fps: float, most: int, width: int) -> None:
    """Take every k-th frame of the video, in one palette of 128 colours made for it."""
    every = max(-(-count // most), round(fps / GIF_FPS), 1)
    rate = max(fps / every, min(fps, GIF_FPS))
    graph = (
        f"select=not(mod(n\\,{every})),setpts=N/{rate}/TB,scale='min({width},iw)':-1:flags=area,"
        "split[a][b];[a]palettegen=max_colors=128[p];[b][p]paletteuse=dither=none:diff_mode=rectangle"
    )
    with _ffmpeg(gif, "-i", str(mp4), "-vf", graph, "-r", f"{rate}", "-loop", "0"):
        pass  # it needs no more input than the video


@contextlib.contextmanager
def _ffmpeg(output: Path, *arguments: str) -> Iterator[IO[bytes]]:
    """Run ffmpeg to write `output`: yields its input, and waits for it when the block ends.

    Raises OSError with what it says if it fails. Killed if the block raises; Ctrl-C is not for it to handle.
    """
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *arguments, str(output)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,  # read at the end: the few lines that it says of an error fit into the pipe
        process_group=0,
        restore_signals=False,  # so that a limit on the size of files is an error that it reports, not its death
    )
    assert process.stdin is not None and process.stderr is not None
    with process.stderr:
        try:
            with process.stdin:
                yield process.stdin
        except BrokenPipeError:
            if process.wait() == 0:  # it was not ffmpeg that broke off
                raise
        except BaseException:
            process.kill()
            process.wait()
            raise
        said = process.stderr.read().decode(errors="replace").strip()
    if process.wait():
        raise OSError(f"ffmpeg could not write {output}: {said or f'it ended with {process.returncode}'}")
