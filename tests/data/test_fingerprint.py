"""Pictures that are the same or look alike are recognised; others are not."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from sklearn.datasets import load_sample_images

from mmrl.data.fingerprint import HASH_BITS, Fingerprint, fingerprint
from mmrl.data.near import near_pairs


@pytest.fixture(scope="module")
def photos():
    return [Image.fromarray(pixels) for pixels in load_sample_images().images]


def jpeg(picture, quality):
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def alike(a, b, distance=4):
    return near_pairs([fingerprint(a), fingerprint(b)], distance=distance) == [(0, 1)]


def test_a_photo_is_recognised_after_compression_scaling_and_a_touch_of_light(photos):
    for photo in photos:
        assert alike(photo, jpeg(photo, 30))
        assert alike(photo, photo.resize((213, 142)))
        assert alike(photo, jpeg(photo.resize((160, 107)), 60))
        assert alike(photo, ImageEnhance.Brightness(photo).enhance(1.05))


def test_different_photos_mirrored_turned_and_stretched_ones_are_not_alike(photos):
    first, second = photos
    assert not alike(first, second)
    for photo in photos:
        assert not alike(photo, photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
        assert not alike(photo, photo.transpose(Image.Transpose.ROTATE_180))
        assert not alike(photo, photo.resize((photo.width, photo.height * 2)))


def test_flat_pictures_are_alike_only_in_the_same_colour():
    def flat(*colour):
        return Image.new("RGB", (30, 30), colour)

    assert alike(flat(250, 0, 0), flat(251, 0, 0), distance=0)
    assert not alike(flat(255, 0, 0), flat(0, 0, 255))
    assert not alike(flat(255, 255, 255), flat(0, 0, 0))


def test_equal_digests_mean_equal_pixels_and_equal_shape():
    stripes = np.zeros((2, 8, 3), dtype=np.uint8)
    wide, square = Image.fromarray(stripes), Image.fromarray(stripes.reshape(4, 4, 3))
    assert fingerprint(wide).digest == fingerprint(wide.copy()).digest
    assert fingerprint(wide).digest != fingerprint(square).digest


@settings(deadline=None)
@given(data=st.data(), distance=st.integers(0, 9))
def test_the_bands_find_exactly_the_pairs_within_the_distance(data, distance):
    base = data.draw(st.lists(st.integers(0, 2**HASH_BITS - 1), min_size=1, max_size=4))
    flips = st.sets(st.integers(0, HASH_BITS - 1), max_size=12)
    bits = [b ^ sum(1 << bit for bit in data.draw(flips)) for b in base for _ in range(4)]
    prints = [Fingerprint(digest=str(i), bits=b, thumbnail=bytes(192)) for i, b in enumerate(bits)]
    expected = [
        (i, j) for i in range(len(bits)) for j in range(i + 1, len(bits)) if (bits[i] ^ bits[j]).bit_count() <= distance
    ]
    assert near_pairs(prints, distance=distance) == expected


def test_videos_have_no_look():
    prints = [Fingerprint(digest="a"), Fingerprint(digest="b")]
    assert near_pairs(prints, distance=16) == []
