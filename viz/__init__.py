"""Arrays in, pictures out: strips of frames, curves, histograms and videos. Knows nothing of the models.

viz.strips.save_strip        labelled rows of frames, PNG
viz.curves.save_curves       lines with bands; save_histogram; save_panels for several in one figure
viz.video.save_video         MP4 and GIF; side_by_side puts captioned videos next to each other
"""
