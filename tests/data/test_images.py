"""Every kind of picture becomes upright RGB with the right colours, or is refused with a reason that can be counted."""

import io
import os
import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from mmrl.data.images import REASONS, BrokenMedia, load_image
from mmrl.errors import DataError, MediaError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def save(folder, picture, name="p.png", **options):
    path = folder / name
    picture.save(path, **options)
    return path


def corners(picture):
    """Top left, top right, bottom left, bottom right."""
    right, bottom = picture.width - 1, picture.height - 1
    return [picture.getpixel(xy) for xy in ((0, 0), (right, 0), (0, bottom), (right, bottom))]


def pixels(picture):
    """All of a small picture's pixels, row by row."""
    return [picture.getpixel((x, y)) for y in range(picture.height) for x in range(picture.width)]


def four_colours(width=6, height=4):
    """Red and green above, blue and white below."""
    picture = Image.new("RGB", (width, height))
    for x in range(width):
        for y in range(height):
            picture.putpixel((x, y), ((RED, GREEN), (BLUE, WHITE))[2 * y // height][2 * x // width])
    return picture


def reason_of(path, **options):
    with pytest.raises(BrokenMedia) as caught:
        load_image(path, **options)
    assert isinstance(caught.value, MediaError)
    assert str(path) in str(caught.value)
    assert caught.value.reason in REASONS
    return caught.value.reason


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "webp", "gif"])
def test_lossless_formats_give_the_pixels_that_were_saved(tmp_path, suffix):
    options = {"lossless": True} if suffix == "webp" else {}
    loaded = load_image(save(tmp_path, four_colours(), f"p.{suffix}", **options))
    assert (loaded.mode, loaded.size) == ("RGB", (6, 4))
    assert corners(loaded) == [RED, GREEN, BLUE, WHITE]


# Orientation → what a viewer shows top left, top right, bottom left and bottom right (EXIF 2.3, section 4.6.4).
TURNED = {
    1: [RED, GREEN, BLUE, WHITE],
    2: [GREEN, RED, WHITE, BLUE],
    3: [WHITE, BLUE, GREEN, RED],
    4: [BLUE, WHITE, RED, GREEN],
    5: [RED, BLUE, GREEN, WHITE],
    6: [BLUE, RED, WHITE, GREEN],
    7: [WHITE, GREEN, BLUE, RED],
    8: [GREEN, WHITE, RED, BLUE],
}


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", TURNED)
def test_exif_orientation_turns_the_picture_upright_once(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    loaded = load_image(save(tmp_path, four_colours(), f"p.{suffix}", exif=exif, **options))
    assert loaded.size == ((4, 6) if orientation >= 5 else (6, 4))
    assert corners(loaded) == TURNED[orientation]
    assert loaded.getexif().get(0x0112) is None  # or the next reader would turn it again


def test_a_jpeg_from_a_phone_held_upright_is_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    loaded = load_image(save(tmp_path, four_colours(64, 32), "p.jpg", exif=exif, quality=95))
    assert loaded.size == (32, 64)
    assert [max(range(3), key=lambda c: colour[c]) for colour in corners(loaded)[:2]] == [2, 0]  # blue, red


def test_nonsense_orientation_leaves_the_picture_as_it_is(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 99
    assert corners(load_image(save(tmp_path, four_colours(), exif=exif))) == [RED, GREEN, BLUE, WHITE]


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    values = np.array([[0, 128, 257, 32768, 65535, 65407]], dtype=np.uint16)
    loaded = load_image(save(tmp_path, Image.fromarray(values)))
    # v · 255 / 65535 = v / 257, rounded: 128/257 = 0.498, 32768/257 = 127.502, 65407/257 = 254.502
    assert [red for red, _, _ in pixels(loaded)] == [0, 0, 1, 128, 255, 255]


@pytest.mark.parametrize("name", ["p.tiff", "p.pgm"])
def test_sixteen_bit_grey_is_scaled_in_other_formats_too(tmp_path, name):
    values = np.array([[0, 257 * 100, 65535]], dtype=np.uint16)
    assert corners(load_image(save(tmp_path, Image.fromarray(values), name)))[1] == WHITE
    assert load_image(tmp_path / name).getpixel((1, 0)) == (100, 100, 100)


def test_sixteen_bit_colour_keeps_its_colours(tmp_path):
    rows = b"\x00" + struct.pack(">6H", 65535, 0, 0, 0, 32768, 65535)
    path = tmp_path / "p.png"
    path.write_bytes(png(2, 1, 16, 2, rows))
    assert pixels(load_image(path)) == [(255, 0, 0), (0, 128, 255)]


def test_wide_integers_and_floats_without_a_fixed_range_are_refused(tmp_path):
    wide = Image.fromarray(np.array([[0, 1_000_000]], dtype=np.int32))
    assert reason_of(save(tmp_path, wide, "wide.tiff")) == "unsupported pixel type"
    depth = Image.fromarray(np.array([[0.0, 3.7]], dtype=np.float32))
    assert reason_of(save(tmp_path, depth, "depth.tiff")) == "unsupported pixel type"


def test_palette_colours_are_looked_up(tmp_path):
    path = save(tmp_path, four_colours().quantize(4))
    assert Image.open(path).mode == "P"
    assert corners(load_image(path)) == [RED, GREEN, BLUE, WHITE]


def test_a_transparent_palette_entry_becomes_white(tmp_path):
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 0, 0])
    picture.putpixel((1, 0), 1)
    for name in ("p.png", "p.gif"):
        assert pixels(load_image(save(tmp_path, picture, name, transparency=1))) == [RED, WHITE]


def test_alpha_is_composited_on_white(tmp_path):
    picture = Image.new("RGBA", (3, 1))
    for x, alpha in enumerate((255, 51, 0)):
        picture.putpixel((x, 0), (255, 0, 0, alpha))
    # 51/255 = 0.2: green = 0.2 · 0 + 0.8 · 255 = 204
    assert pixels(load_image(save(tmp_path, picture))) == [RED, (255, 204, 204), WHITE]


def test_grey_with_alpha_is_composited_on_white(tmp_path):
    picture = Image.new("LA", (2, 1), (0, 255))
    picture.putpixel((1, 0), (0, 0))
    assert pixels(load_image(save(tmp_path, picture))) == [(0, 0, 0), WHITE]


def test_a_colour_declared_transparent_becomes_white(tmp_path):
    path = save(tmp_path, four_colours(), transparency=BLUE)
    assert corners(load_image(path)) == [RED, GREEN, WHITE, WHITE]


def test_one_bit_pictures_are_black_and_white(tmp_path):
    picture = Image.new("1", (2, 1))
    picture.putpixel((1, 0), 1)
    assert pixels(load_image(save(tmp_path, picture))) == [(0, 0, 0), WHITE]


def test_cmyk_is_converted(tmp_path):
    for name, options in (("p.jpg", {"quality": 100}), ("p.tiff", {})):
        path = save(tmp_path, Image.new("CMYK", (8, 8), (0, 255, 255, 0)), name, **options)
        red, green, blue = np.asarray(load_image(path))[4, 4]
        assert red > 250
        assert max(green, blue) < 5


def test_an_animation_is_refused_and_a_single_frame_is_not(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN)]
    for suffix in ("gif", "webp", "png", "tiff"):
        path = save(tmp_path, frames[0], f"p.{suffix}", save_all=True, append_images=frames[1:])
        assert reason_of(path) == "several frames"
    assert corners(load_image(save(tmp_path, frames[0], "one.gif")))[0] == RED


def test_the_first_picture_of_a_camera_file_with_previews_is_used(tmp_path):
    path = save(tmp_path, four_colours(32, 32), "p.jpg", format="MPO", save_all=True, append_images=[four_colours()])
    assert Image.open(path).format == "MPO"
    assert load_image(path).size == (32, 32)


@pytest.mark.parametrize(("suffix", "format_"), [("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP"), ("gif", "GIF")])
def test_a_truncated_file_is_refused_at_every_length(tmp_path, suffix, format_):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    noise.save(buffer, format=format_)
    whole = buffer.getvalue()
    path = tmp_path / f"p.{suffix}"
    for keep in range(1, len(whole) * 9 // 10, max(1, len(whole) // 40)):
        path.write_bytes(whole[:keep])
        assert reason_of(path) in {"truncated image", "corrupt image", "unknown format"}
    path.write_bytes(whole[: len(whole) // 2])
    if suffix in ("jpg", "png"):
        assert reason_of(path) == "truncated image"


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.*")
def test_damaged_bytes_never_raise_anything_else(tmp_path):
    random = np.random.default_rng(1)
    path = tmp_path / "p"
    for format_ in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"):
        buffer = io.BytesIO()
        four_colours(16, 16).save(buffer, format=format_)
        whole = bytearray(buffer.getvalue())
        for _ in range(25):
            damaged = bytearray(whole)
            for position in random.integers(0, len(whole), 6):
                damaged[position] = random.integers(0, 256)
            path.write_bytes(damaged)
            try:
                outcome = load_image(path, max_pixels=10**6).mode
            except BrokenMedia as error:
                outcome = error.reason
            assert outcome in {"RGB", *REASONS}


def test_an_empty_file_a_text_file_and_a_folder_are_told_apart(tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("<html>404</html>")
    assert reason_of(tmp_path / "empty.png") == "empty file"
    assert reason_of(tmp_path / "text.png") == "unknown format"
    assert reason_of(tmp_path) == "not a file"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "p.png")
    assert reason_of(tmp_path / "p.png") == "not a file"


def test_a_format_that_would_start_a_program_is_not_opened(tmp_path):
    (tmp_path / "p.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    assert reason_of(tmp_path / "p.eps") == "unknown format"


def test_a_missing_file_is_a_defect_of_the_data_set(tmp_path):
    for path in (tmp_path / "none.png", save(tmp_path, four_colours()) / "below-a-file.png"):
        with pytest.raises(DataError, match="does not exist"):
            load_image(path)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, depth, colour, rows):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore:Image size")
@pytest.mark.parametrize("side", [9_460, 20_000, 60_000])
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path, side):
    path = tmp_path / "p.png"
    path.write_bytes(png(side, side, 1, 0, b"\x00"))  # decoding it would give another reason
    assert reason_of(tmp_path / "p.png") == "too many pixels"


def test_the_pixel_limit_can_be_chosen(tmp_path):
    path = save(tmp_path, four_colours(20, 10))
    assert load_image(path, max_pixels=200).size == (20, 10)
    assert reason_of(path, max_pixels=199) == "too many pixels"


def test_an_aspect_ratio_above_200_is_refused(tmp_path):
    assert load_image(save(tmp_path, Image.new("L", (600, 3)))).size == (600, 3)
    assert reason_of(save(tmp_path, Image.new("L", (603, 3)))) == "extreme aspect ratio"
    assert reason_of(save(tmp_path, Image.new("L", (3, 603)))) == "extreme aspect ratio"


def test_a_picture_of_no_pixels_is_refused(tmp_path):
    (tmp_path / "p.png").write_bytes(png(0, 5, 8, 0, b""))
    assert reason_of(tmp_path / "p.png") in {"corrupt image", "unknown format"}


def test_the_picture_outlives_its_file_and_pillow_keeps_its_settings(tmp_path):
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    path = save(tmp_path, four_colours())
    loaded = load_image(str(path))
    path.unlink()
    assert corners(loaded) == [RED, GREEN, BLUE, WHITE]
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


def test_broken_media_cross_process_borders():
    error = pickle.loads(pickle.dumps(BrokenMedia("a.png is empty.", reason="empty file")))
    assert (str(error), error.reason) == ("a.png is empty.", "empty file")
