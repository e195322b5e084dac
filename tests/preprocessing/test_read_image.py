"""Reading one image: exact where it can be, refused with a name and a remedy where not."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from hcreg.preprocessing.images import read_image, read_shape


@pytest.fixture
def grey():
    return np.random.default_rng(0).integers(0, 256, (54, 80), dtype=np.uint8)


def write_png(path, bit_depth, color_type, rows):
    """Write a PNG by hand from the format's definition, for the kinds that Pillow does not write."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = rows.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, bit_depth, color_type, 0, 0, 0)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_lossless_formats_are_exact(tmp_path, grey, suffix):
    path = tmp_path / f"head.{suffix}"
    Image.fromarray(grey).save(path)
    image = read_image(path)
    assert image.dtype == np.uint8
    assert image.shape == (54, 80)
    np.testing.assert_array_equal(image, grey)
    image[0, 0] = 1  # the array is the caller's own


def test_jpeg_is_close_and_a_string_path_serves(tmp_path):
    path = tmp_path / "head.jpg"
    ramp = np.tile(np.arange(80, dtype=np.uint8), (54, 1))
    Image.fromarray(ramp).save(path, quality=95)
    assert np.abs(read_image(str(path)).astype(int) - ramp).max() <= 4


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_grey_stored_as_colour_is_exact(tmp_path, grey, mode):
    path = tmp_path / "head.png"
    Image.fromarray(grey).convert(mode).save(path)
    np.testing.assert_array_equal(read_image(path), grey)


def test_transparency_is_ignored(tmp_path, grey):
    path = tmp_path / "head.png"
    Image.fromarray(np.dstack([grey, grey, grey, np.zeros_like(grey)])).save(path)
    np.testing.assert_array_equal(read_image(path), grey)


def test_coloured_marks_become_luminance_and_grey_pixels_stay(tmp_path, grey):
    path = tmp_path / "head.png"
    colour = np.dstack([grey, grey, grey])
    colour[10, 20] = (255, 0, 0)
    colour[11, 20] = (0, 255, 0)
    Image.fromarray(colour).save(path)
    image = read_image(path)
    assert image[10, 20] == pytest.approx(0.299 * 255, abs=1)
    assert image[11, 20] == pytest.approx(0.587 * 255, abs=1)
    grey[10:12, 20] = image[10:12, 20]
    np.testing.assert_array_equal(image, grey)


def test_one_bit_image_is_0_and_255(tmp_path):
    path = tmp_path / "mask.png"
    mask = np.eye(9, dtype=bool)
    Image.fromarray(mask).save(path)
    np.testing.assert_array_equal(read_image(path), mask * np.uint8(255))


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no image file .*nowhere\.png"):
        read_image(tmp_path / "nowhere.png")


def test_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is a folder; expected the path of one image file"):
        read_image(tmp_path)


def test_empty_file_is_refused(tmp_path):
    path = tmp_path / "head.png"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"head\.png is empty \(0 bytes\)"):
        read_image(path)


def test_text_called_png_is_refused(tmp_path):
    path = tmp_path / "head.png"
    path.write_text("<html>404 not found</html>")
    with pytest.raises(ValueError, match=r"head\.png is not a PNG, JPEG, BMP or TIFF image.*Export it"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_truncated_file_is_refused(tmp_path, grey, suffix, kept):
    path = tmp_path / f"head.{suffix}"
    Image.fromarray(grey).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=rf"head\.{suffix} is (truncated or damaged|not a PNG).*"):
        read_image(path)


def test_one_flipped_byte_of_a_png_is_refused(tmp_path, grey):
    path = tmp_path / "head.png"
    Image.fromarray(grey).save(path, compress_level=0)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"head\.png is truncated or damaged .*no part of it was used"):
        read_image(path)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
def test_damaged_header_gives_an_image_or_an_error_that_names_the_file(tmp_path, grey, suffix):
    path = tmp_path / f"head.{suffix}"
    Image.fromarray(grey[:20, :30]).save(path)
    content = path.read_bytes()
    messages = []
    for position in range(200):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        path.write_bytes(bytes(damaged))
        try:
            assert read_image(path).dtype == np.uint8
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 5
    assert all(str(path) in message for message in messages)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_more_than_8_bits_grey_is_refused(tmp_path, dtype):
    path = tmp_path / "head.tif"
    Image.fromarray(np.arange(20).reshape(4, 5).astype(dtype)).save(path)
    with pytest.raises(ValueError, match=r"head\.tif has more than 8 bits a channel.*save it as an 8-bit PNG"):
        read_image(path)


@pytest.mark.parametrize(("color_type", "num_channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_16_bit_png_is_refused_in_every_colour_type(tmp_path, color_type, num_channels):
    path = tmp_path / "head.png"
    write_png(path, 16, color_type, np.full((4, 5, num_channels), 0x1234))
    with pytest.raises(ValueError, match="more than 8 bits a channel"):
        read_image(path)


def test_several_frames_are_refused(tmp_path, grey):
    path = tmp_path / "sweep.tif"
    frame = Image.fromarray(grey)
    frame.save(path, save_all=True, append_images=[frame, frame])
    with pytest.raises(ValueError, match=r"sweep\.tif holds 3 frames; expected one"):
        read_image(path)


def test_header_claiming_gigapixels_is_refused(tmp_path):
    path = tmp_path / "head.png"
    write_png(path, 8, 0, np.zeros((1, 1), np.uint8))
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 60000, 60000)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"head\.png claims more than \d+ pixels"):
        read_image(path)


def test_shape_is_read_without_decoding(tmp_path, grey):
    path = tmp_path / "image.png"
    Image.fromarray(grey).save(path)
    path.write_bytes(path.read_bytes()[:1000])  # the pixels are cut off, the header is whole
    assert read_shape(path) == (54, 80)
    with pytest.raises(ValueError, match="truncated or damaged"):
        read_image(path)


def test_shape_of_no_image_is_refused_in_the_words_of_reading_it(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(b"nothing like it")
    with pytest.raises(ValueError, match="is not a PNG, JPEG, BMP or TIFF image"):
        read_shape(path)
    with pytest.raises(FileNotFoundError, match=r"missing\.png"):
        read_shape(tmp_path / "missing.png")
