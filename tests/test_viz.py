"""Pictures are read back, and must show what went in."""

import re
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from experiment.problem import Problem
from tests.commands import python
from viz.curves import ORANGE, PALETTE, Curves, Histogram, save_panels
from viz.strips import GAP, save_strip, strip
from viz.video import CAPTION, save_gif, save_video, side_by_side

RED, BLUE = np.array([200, 30, 30], np.uint8), np.array([30, 30, 200], np.uint8)


def plain(colour, *shape):
    return np.broadcast_to(colour, (*shape, 3)).copy()


def read_video(path):
    """All frames of a video, (T, H, W, 3) uint8."""
    reader = imageio_ffmpeg.read_frames(str(path))
    width, height = next(reader)["size"]
    return np.stack([np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader])


def read_picture(path):
    """(h, w, 3)."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def has_colour(picture, colour):
    return bool((np.abs(picture.astype(int) - colour).max(axis=-1) < 12).any())


def test_strip_shows_every_frame_beside_its_label(tmp_path):
    save_strip(tmp_path / "strip.png", {"real": plain(RED, 3, 10, 8), "dreamed": plain(BLUE, 2, 6, 8)})
    picture = read_picture(tmp_path / "strip.png")
    assert (picture == RED).all(axis=-1).sum() == 3 * 20 * 16
    assert (picture == BLUE).all(axis=-1).sum() == 2 * 12 * 16
    frames_begin = (picture == RED).all(axis=-1).any(axis=0).argmax()
    assert picture.shape[1] - frames_begin == 3 * (16 + GAP) - GAP + 8
    assert (picture[:, :frames_begin] < 100).any()  # the ink of the labels
    assert [path.name for path in tmp_path.iterdir()] == ["strip.png"]


def test_what_stands_over_the_columns_leaves_room_for_rows_that_are_shorter():
    rows = {"real": plain(RED, 2, 32, 32), "a dream": plain(BLUE, 1, 32, 32)}
    picture = strip(rows, ["0.0 s", "1.0 s", "2.0 s"])
    red, blue = ((picture == colour).all(axis=-1) for colour in (RED, BLUE))
    left, top = red.any(axis=0).argmax(), red.any(axis=1).argmax()
    assert red.sum() == 2 * 64**2 and blue.sum() == 64**2
    assert picture.shape[1] == left + 3 * (64 + GAP) - GAP + 8
    for i in range(3):
        x = left + i * (64 + GAP)
        assert (picture[:top, x : x + 64] < 100).any()
    assert (picture[top:, left + 2 * (64 + GAP) :] == 255).all()


def test_strip_refuses_what_is_no_frame():
    with pytest.raises(ValueError, match=r"must be uint8"):
        strip({"float": np.zeros((1, 8, 8, 3))})


def test_curves_leave_out_nan_and_change_nothing_global(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    x = np.arange(40.0)
    y = np.where(x % 5 == 4, x, np.nan)
    series = {"dream": (x, 2 * x, 0 * x + 3), "game": (x, y, (y - 1, y + 2)), "not begun": ([], [])}
    levels = {"solved": 30, "close": 31}
    save_panels(tmp_path / "curves.png", [Curves(series, "generation", "tics", "Survival", logx=True, hlines=levels)])
    picture = read_picture(tmp_path / "curves.png")
    assert has_colour(picture, (0x00, 0x72, 0xB2)) and has_colour(picture, (0xD5, 0x5E, 0x00))
    assert dict(matplotlib.rcParams) == before


def test_plots_are_not_in_the_style_of_the_users_matplotlibrc(tmp_path):
    import matplotlib

    drawn = []
    for theirs in ({}, {"text.usetex": True, "savefig.dpi": 30, "savefig.bbox": "tight", "axes.facecolor": "black"}):
        with matplotlib.rc_context(theirs):
            save_panels(tmp_path / "plot.png", [Curves({"a": ([0, 1], [2, 1])}, "x", "y", "z")])
        drawn.append((tmp_path / "plot.png").read_bytes())
    assert drawn[0] == drawn[1]


def test_a_curve_keeps_its_colour_whichever_others_there_are():
    from matplotlib.figure import Figure

    line, colours = ([0, 1], [2, 1]), {"copy": ORANGE}
    drawn = []
    for names in (["copy"], ["open loop", "copy"]):
        axes = Figure().subplots()
        Curves(dict.fromkeys(names, line), "x", "y", "z", colours=colours).draw(axes)
        drawn.append({each.get_label(): each.get_color() for each in axes.lines})
    assert drawn == [{"copy": ORANGE}, {"open loop": PALETTE[0], "copy": ORANGE}]


def test_histogram_states_its_figures(tmp_path):
    samples = {"random": [1, 2, 3, 4], "none yet": []}
    panel = Histogram(samples, "tics", "Survival", lines={"solved": 3.5})
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    panel.draw(axes)
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["random: 2.50 ± 1.29 (n = 4)"]
    axes = Figure().subplots()
    Histogram({"agent": [890, 900], "random": [-30, -32]}, "return", "Returns").draw(axes)
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["agent: 895 ± 7 (n = 2)", "random: -31 ± 1 (n = 2)"]
    save_panels(tmp_path / "histogram.png", [Histogram(samples, "tics", "Survival")])
    save_panels(tmp_path / "panels.png", [panel, panel, Curves({"a": ([0, 1], [2, 1])}, "x", "y", "z")])
    one, three = (read_picture(tmp_path / name).shape[:2] for name in ("histogram.png", "panels.png"))
    assert three == (2 * one[0], 2 * one[1])


def test_video_plays_in_browsers_and_keeps_its_frames(tmp_path):
    frames = np.stack([plain(RED if t % 2 else BLUE, 31, 47) for t in range(30)])
    save_video(tmp_path / "video", frames, fps=35)
    video = read_video(tmp_path / "video.mp4")
    assert video.shape == (30, 32, 48, 3)
    assert np.abs(video[:, :31, :47].astype(int) - frames).max() < 20
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    streams = subprocess.run([ffmpeg, "-i", str(tmp_path / "video.mp4")], capture_output=True, text=True).stderr
    assert re.search(r"Video: h264 .*yuv420p.* 35 fps", streams)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["video.gif", "video.mp4"]


def test_gif_of_a_long_video_is_subsampled_from_all_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr("viz.video.GIF_FRAMES", 25)
    levels = np.arange(0, 250, dtype=np.uint8)
    frames = (plain(np.full(3, level, np.uint8), 16, 16) for level in levels)  # yields, as a long recording would
    save_video(tmp_path / "video", frames, fps=35)
    with Image.open(tmp_path / "video.gif") as gif:
        shown = []
        for i in range(gif.n_frames):
            gif.seek(i)
            shown.append(np.asarray(gif.convert("RGB")).mean())
        assert 20 <= gif.n_frames <= 26
    assert shown[0] < 10 and shown[-1] > 225 and all(np.diff(shown) >= 0)


def test_a_gif_alone_is_as_wide_as_it_may_be(tmp_path):
    save_gif(
        tmp_path / "video.gif", [plain(RED if t % 2 else BLUE, 16, 48) for t in range(9)], fps=35, most=3, width=24
    )
    assert [path.name for path in tmp_path.iterdir()] == ["video.gif"]
    with Image.open(tmp_path / "video.gif") as gif:
        assert (gif.n_frames, gif.size) == (3, (24, 8))


def test_video_that_fails_leaves_nothing(tmp_path):
    def broken():
        yield plain(RED, 16, 16)
        raise RuntimeError("the game died")

    with pytest.raises(RuntimeError, match="the game died"):
        save_video(tmp_path / "video", broken(), fps=35)
    with pytest.raises(ValueError, match="at least one frame"):
        save_video(tmp_path / "video", [], fps=35)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("complaint", ["No space left on device", "Unknown encoder"])
@pytest.mark.parametrize("reads", [True, False])
def test_what_ffmpeg_complains_of_is_reported(tmp_path, monkeypatch, complaint, reads):
    """Whether it fails at the end or breaks off while frames are still sent."""
    failing = tmp_path / "ffmpeg"
    failing.write_text(f"#!/bin/sh\n{'cat > /dev/null' if reads else ''}\necho 'mp4: {complaint}' >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(failing))
    kind, words = (Problem, r"disk is full while writing .*video\.") if "space" in complaint else (OSError, complaint)
    (tmp_path / "videos").mkdir()
    with pytest.raises(kind, match=words):
        save_video(tmp_path / "videos" / "video", (plain(RED, 64, 64) for _ in range(100)), fps=35)
    assert not list((tmp_path / "videos").iterdir())


LIMITED = """
import resource, sys
import numpy as np
from experiment.stage import guard
from viz.video import save_video

resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
noise = np.random.default_rng(0)
guard(lambda: save_video(sys.argv[1], (noise.integers(0, 255, (64, 64, 3)).astype(np.uint8) for _ in range(60)), 35))
"""


def test_a_full_disk_is_one_line(tmp_path):
    """With ffmpeg itself, which may write no more than a few kilobytes."""
    done = python("-c", LIMITED, tmp_path / "video")
    assert re.fullmatch(r"error: the disk is full while writing \S*video\.\w+: free some space .*\n", done.stderr)
    assert not list(tmp_path.iterdir())


def test_side_by_side_scales_to_one_height_and_darkens_what_has_ended():
    frames = list(side_by_side({"V": plain(RED, 3, 8, 8), "the game": plain(BLUE, 2, 16, 24)}, scale=2))
    assert [frame.shape for frame in frames] == [(CAPTION + 32, 32 + 4 + 48, 3)] * 3
    assert (frames[0][CAPTION:, :32] == RED).all() and (frames[0][CAPTION:, 36:] == BLUE).all()
    assert (frames[2][CAPTION:, 36:] == BLUE // 3).all()
