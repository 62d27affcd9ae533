"""Pictures → the bytes of an mp4 file (H.264).

One thread, no dates, a fixed quality, and no code of x264's that rounds differently on another processor: the same
pictures give the same bytes with the same version of PyAV. Another version may carry another x264 and give other bytes;
the digest of the pictures themselves tells such files apart from different ones, and does not depend on the encoder.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from mmrl.data.source import NewFile
from mmrl.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

# Without it x264 estimates what a block is worth to later frames with the processor's own approximate reciprocals: of
# 120 clips three had other bytes with AVX2 than with AVX-512.
_X264 = "cpu-independent=1"


def mp4(pictures: Sequence[Image], *, fps: int, sampled_fps: float) -> NewFile:
    """A clip of RGB pictures of one, even size. sampled_fps: frames a second that a model is to see."""
    import av

    file = io.BytesIO()
    try:
        with av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
            stream = container.add_stream("libx264", rate=fps)
            stream.width, stream.height = pictures[0].size
            stream.pix_fmt = "yuv420p"
            stream.time_base = Fraction(1, fps)
            stream.codec_context.thread_count = 1
            stream.codec_context.gop_size = 2 * fps
            stream.options = {"crf": "16", "preset": "veryfast", "flags": "+bitexact", "bf": "0", "x264-params": _X264}
            for number, picture in enumerate(pictures):
                frame = av.VideoFrame.from_ndarray(_yuv(picture), format="yuv420p")
                frame.pts, frame.time_base = number, Fraction(1, fps)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    except av.FFmpegError as error:
        raise DataError(f"PyAV cannot write H.264 ({error}); install a build that can: pip install av") from error
    return NewFile(type="video", content=file.getvalue(), suffix=".mp4", options={"fps": sampled_fps})


def _yuv(picture: Image) -> NDArray[np.uint8]:
    """[3/2·height, width]: Y, then U and V at half the size (BT.601, 16–235). In whole numbers, the same everywhere."""
    import numpy as np

    red, green, blue = np.asarray(picture).astype(np.int32).transpose(2, 0, 1)
    y = ((66 * red + 129 * green + 25 * blue + 128) >> 8) + 16
    height, width = y.shape
    quarter = [
        colour.reshape(height // 2, 2, width // 2, 2).sum(axis=(1, 3), dtype=np.int32) for colour in (red, green, blue)
    ]
    red, green, blue = quarter  # sums of four pixels
    u = ((-38 * red - 74 * green + 112 * blue + 512) >> 10) + 128
    v = ((112 * red - 94 * green - 18 * blue + 512) >> 10) + 128
    planes = np.concatenate([plane.ravel() for plane in (y, u, v)]).astype(np.uint8)
    return planes.reshape(height * 3 // 2, width)


def pictures_digest(pictures: Sequence[Image]) -> str:
    """SHA-256 of the pixels of all pictures."""
    whole = hashlib.sha256()
    for picture in pictures:
        whole.update(picture.tobytes())
    return whole.hexdigest()
