"""Texts and pictures that are nearly the same are found; others are not."""

from itertools import combinations

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from sklearn.datasets import load_sample_images

from mmrl.curation.looks import LOOK, alike_pairs, joined, look_of
from mmrl.curation.near_text import BANDS, near_rows, normalized, overlap, signatures
from tests.curation.material import jpeg, photo


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    return [Image.fromarray(pixels) for pixels in load_sample_images().images]


def alike(a: Image.Image, b: Image.Image, bits: int = 4) -> bool:
    return len(alike_pairs(np.concatenate([look_of(a), look_of(b)]), bits=bits)) == 1


def test_a_photo_is_recognised_after_compression_scaling_and_a_touch_of_light(photos: list[Image.Image]):
    for picture in photos:
        assert alike(picture, jpeg(picture, 30))
        assert alike(picture, picture.resize((213, 142)))
        assert alike(picture, jpeg(picture.resize((160, 107)), 60))
        assert alike(picture, ImageEnhance.Brightness(picture).enhance(1.05))


def test_other_mirrored_turned_stretched_and_recoloured_photos_are_not_alike(photos: list[Image.Image]):
    assert not alike(photos[0], photos[1])
    for picture in photos:
        assert not alike(picture, picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
        assert not alike(picture, picture.transpose(Image.Transpose.ROTATE_180))
        assert not alike(picture, picture.resize((picture.width, picture.height * 2)))
        red, green, blue = picture.split()
        assert not alike(picture, Image.merge("RGB", (blue, green, red)), bits=16)
    assert not alike(Image.new("RGB", (30, 30), "red"), Image.new("RGB", (30, 30), "blue"))


def test_the_bands_find_exactly_the_pairs_that_comparing_all_finds():
    generator = np.random.Generator(np.random.PCG64(1))
    looks = np.zeros(300, dtype=LOOK)
    looks["aspect"] = 1
    base = generator.integers(0, 2**63, 30, dtype=np.uint64)
    flips = np.array([sum(1 << int(b) for b in generator.integers(0, 64, n % 8)) for n in range(300)], dtype=np.uint64)
    looks["bits"] = base[np.arange(300) % 30] ^ flips
    for bits in (0, 3, 7):
        all_pairs = {
            (i, j)
            for i, j in combinations(range(300), 2)
            if (int(looks["bits"][i]) ^ int(looks["bits"][j])).bit_count() <= bits
        }
        assert {tuple(pair) for pair in alike_pairs(looks, bits=bits).tolist()} == all_pairs
        assert all_pairs


def test_families_join_through_others():
    family = joined(np.array([[0, 1], [1, 2], [3, 4]]), 6).tolist()
    assert family[0] == family[1] == family[2] != family[3] == family[4] != family[5] != family[0]


def test_overlap_by_hand():
    assert normalized("  Who's  THERE? ") == "who s there"
    assert overlap("abcdef", "abcdeg") == 1 / 3  # abcde is shared; bcdef and bcdeg are not
    assert overlap("Same, text!", "same text") == 1.0
    assert overlap("", "other") == 0.0


def test_signatures_agree_as_often_as_the_texts_overlap():
    a, b = "which of these animals lives in the cold sea", "which of these animals lives in the warm sea"
    assert signatures([]).shape == (0, BANDS)
    both = signatures([a, b, a])
    assert (both[0] == both[2]).all()
    assert (both[0] == both[1]).any()
    alone = np.concatenate([signatures([text]) for text in (a, b)])
    assert (alone == both[:2]).all()  # neighbours do not matter
    far = signatures([a, "how many coins are on the table"])
    assert not (far[0] == far[1]).any()


def test_repeats_of_one_text_all_meet_the_first_and_other_buckets_meet_nobody():
    texts = ["what is the name of this large river in the north"] * 200 + ["how many people are in the boat"]
    rows = np.arange(201)
    bucket = np.zeros(201, dtype=np.uint64)
    found = near_rows(signatures(texts), bucket, rows, texts.__getitem__, threshold=0.8)
    assert found == dict.fromkeys(range(1, 200), 0)
    assert near_rows(signatures(texts), rows.astype(np.uint64), rows, texts.__getitem__, threshold=0.8) == {}


def test_planted_rewordings_are_found_among_many_templates():
    generator = np.random.Generator(np.random.PCG64(2))
    things = [f"{a}{b}" for a in ("red", "blue", "tall", "old") for b in ("fox", "tree", "ship", "lamp", "door")]
    texts = [
        f"where does the {things[i % 20]} stand when {generator.integers(1 << 40):x} looks at it" for i in range(400)
    ]
    planted = {400 + i: i * 7 for i in range(40)}
    texts += [texts[i].upper() + "?" for i in planted.values()]
    rows = np.arange(len(texts))
    found = near_rows(signatures(texts), np.zeros(len(texts), dtype=np.uint64), rows, texts.__getitem__, threshold=0.9)
    assert found == planted


def test_small_pictures_look_like_themselves():
    assert alike(photo(1), photo(1).resize((48, 32)))
    assert not alike(photo(1), photo(2), bits=16)
