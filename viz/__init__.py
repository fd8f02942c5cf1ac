"""Arrays in, pictures out: strips of frames, curves, histograms and videos. Knows nothing of the models.

viz.frames.to_rgb            frames of any kind as uint8 RGB; to_unit as float32 in [0, 1]
viz.strips.save_strip        rows of frames with labels, columns too, PNG
viz.curves.save_panels       one or several panels in a figure: Curves, lines with bands, and Histogram
viz.scores.score             how far frames are from others: MSE, PSNR (at most 58.9 dB), SSIM
viz.video.save_video         MP4 and GIF; save_mp4, save_gif; side_by_side puts captioned videos next to each other
"""

from experiment.problem import Problem

try:
    import matplotlib  # noqa: F401
except ValueError as error:
    raise Problem(
        f"matplotlib cannot be imported ({error}): mend or remove the matplotlibrc here or in ~/.config/matplotlib, and "
        "MPLBACKEND if it is set"
    ) from error
