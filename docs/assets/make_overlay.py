"""Make ``overlay.webp``, the animation of the README, from a clip.

python docs/assets/make_overlay.py solidWhiteRight.mp4 docs/assets/overlay.webp
"""

import sys

from PIL import Image

from rtseg import Overlay, OverlayOptions, SourceOptions, open_backend, open_source
from rtseg.preprocess import Prepare, resize, resize_labels

clip, output = sys.argv[1:]
SIZE = (270, 480)
images = []
with open_backend("auto", "icnet-camvid", size=(544, 960)) as backend:  # the size of the clip
    prepare = Prepare(backend.spec)
    overlay = Overlay(backend.spec, OverlayOptions(legend=True, alpha=0.45))
    for frame in open_source(clip, SourceOptions(start_s=1.2, duration_s=5)):
        labels = backend.infer(prepare(frame.image)[None])[0]
        drawn = overlay.draw(resize(frame.image, SIZE), resize_labels(labels, SIZE))
        images.append(Image.fromarray(drawn[..., ::-1]))
images[0].save(output, save_all=True, append_images=images[1:], duration=40, loop=0, quality=75, method=6)
