"""Pictures become sRGB as a viewer shows them. Expected colours are worked out from the profiles' formulas."""

import io
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from pipelines.media.images import encode_still, read_image

D50 = np.array([0.9642, 1.0, 0.8249])
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
DISPLAY_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE_RGB = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
COLOURS = np.array([(200, 60, 50), (60, 180, 70), (50, 70, 190), (128, 128, 128), (240, 200, 180)], np.uint8)


def to_linear(values: np.ndarray) -> np.ndarray:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def from_linear(values: np.ndarray) -> np.ndarray:
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * np.clip(values, 0, None) ** (1 / 2.4) - 0.055)


def to_xyz(primaries: Sequence[tuple[float, float]]) -> np.ndarray:
    """The matrix from linear RGB with a D65 white to XYZ, from the primaries' xy."""
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in primaries]).T
    white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
    return columns * np.linalg.solve(columns, white)


def in_profile(colours: np.ndarray, primaries: Sequence[tuple[float, float]], gamma: float | None) -> np.ndarray:
    """sRGB colours in another space, 8 bits."""
    linear = to_linear(colours / 255) @ to_xyz(SRGB).T @ np.linalg.inv(to_xyz(primaries)).T
    encoded = from_linear(linear) if gamma is None else np.clip(linear, 0, None) ** (1 / gamma)
    return np.rint(np.clip(encoded, 0, 1) * 255).astype(np.uint8)


def profile(kind: bytes, tags: dict[bytes, bytes], *, space: bytes = b"XYZ ", device: bytes = b"mntr") -> bytes:
    """An ICC version 2 profile."""
    tags = {b"desc": b"desc" + struct.pack(">4xI", 2) + b"x\0" + bytes(78), b"cprt": b"text" + bytes(5), **tags}
    tags[b"wtpt"] = xyz(D50)
    table, body = b"", b""
    for name, data in tags.items():
        table += name + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s", 0, b"none", 0x02400000, device, kind, space)
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + xyz(D50)[8:] + bytes(48)
    whole = head + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", len(whole)) + whole[4:]


def xyz(values: np.ndarray) -> bytes:
    return b"XYZ " + struct.pack(">4x3i", *np.rint(np.asarray(values) * 65536).astype(int))


def curve(gamma: float | None) -> bytes:
    if gamma is not None:
        return b"curv" + struct.pack(">4xIH2x", 1, round(gamma * 256))
    table = np.rint(to_linear(np.linspace(0, 1, 1024)) * 65535).astype(">u2")
    return b"curv" + struct.pack(">4xI", 1024) + table.tobytes()


def rgb_profile(primaries: Sequence[tuple[float, float]], gamma: float | None) -> bytes:
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    white = to_xyz(primaries).sum(axis=1)
    adapt = np.linalg.inv(bradford) @ np.diag((bradford @ D50) / (bradford @ white)) @ bradford
    columns = (adapt @ to_xyz(primaries)).T
    tags = {name: xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)}
    return profile(b"RGB ", tags | {name: curve(gamma) for name in (b"rTRC", b"gTRC", b"bTRC")})


def cmyk_profile() -> bytes:
    """CMYK as a table of the corners: white without ink, black with black ink, cyan as sRGB's (0, 255, 255)."""
    lab = {
        (0, 0): (100.0, 0.0, 0.0),
        (1, 0): (90.67, -50.67, -14.96),
    }  # by (cyan, black), D50; the last from sRGB's cyan
    nodes = b""
    for node in range(16):
        cyan, black = node >> 3 & 1, node & 1
        light, a, b = (0.0, 0.0, 0.0) if black else lab[cyan, 0]
        nodes += bytes([round(light * 2.55), round(a + 128), round(b + 128)])
    identity = bytes(range(256))
    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + identity * 4 + nodes + identity * 3
    tags = {b"A2B0": table, b"A2B1": table}
    return profile(b"CMYK", tags, space=b"Lab ", device=b"prtr")


def patches(colours: np.ndarray) -> Image.Image:
    return Image.fromarray(np.repeat(np.repeat(colours[None], 8, axis=0), 8, axis=1))


def read_patches(path: Path) -> np.ndarray:
    return read_image(path)[4, 4::8].astype(int)


@pytest.mark.parametrize(("primaries", "gamma"), [(DISPLAY_P3, None), (ADOBE_RGB, 563 / 256), (SRGB, 1.8)])
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_colours_of_an_embedded_profile_become_srgb(
    primaries: Sequence[tuple[float, float]], gamma: float | None, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"x.{suffix}"
    more = {"lossless": True} if suffix == "webp" else {}
    encoded = in_profile(COLOURS, primaries, gamma)
    patches(encoded).save(path, icc_profile=rgb_profile(primaries, gamma), **more)
    assert np.abs(encoded.astype(int) - COLOURS).max() > 10  # what ignoring the profile would give
    assert np.abs(read_patches(path) - COLOURS).max() <= 2


def test_transparency_survives_a_profile(tmp_path: Path) -> None:
    picture = patches(in_profile(COLOURS, DISPLAY_P3, None)).convert("RGBA")
    picture.putalpha(128)
    picture.save(tmp_path / "x.png", icc_profile=rgb_profile(DISPLAY_P3, None))
    over_white = COLOURS * (128 / 255) + 255 * (127 / 255)
    assert np.abs(read_patches(tmp_path / "x.png") - over_white).max() <= 2


def test_a_grey_profile_is_applied(tmp_path: Path) -> None:
    linear = profile(b"GRAY", {b"kTRC": curve(1.0)})
    Image.new("L", (9, 9), 55).save(tmp_path / "x.png", icc_profile=linear)
    expected = round(float(from_linear(np.array(55 / 255))) * 255)
    assert expected == 128
    assert np.abs(read_image(tmp_path / "x.png").astype(int) - 128).max() <= 1


def test_a_cmyk_profile_is_applied(tmp_path: Path) -> None:
    inks = np.zeros((8, 24, 4), np.uint8)
    inks[:, 8:16, 0], inks[:, 16:, 3] = 255, 255
    Image.fromarray(inks, "CMYK").save(tmp_path / "x.tif", icc_profile=cmyk_profile())
    shown = read_image(tmp_path / "x.tif")[4, [4, 12, 20]].astype(int)
    assert shown[0].min() >= 253
    assert np.abs(shown[1] - (0, 255, 255)).max() <= 12  # the profile has whole units of Lab
    assert shown[2].max() <= 3


@pytest.mark.parametrize(
    "data", [b"nonsense", rgb_profile(DISPLAY_P3, None)[:300], profile(b"GRAY", {b"kTRC": curve(1.0)})]
)
def test_a_profile_that_is_broken_or_of_other_pixels_is_ignored(data: bytes, tmp_path: Path) -> None:
    patches(COLOURS).save(tmp_path / "x.png", icc_profile=data)
    assert (read_patches(tmp_path / "x.png") == COLOURS).all()


def test_a_picture_with_srgbs_profile_is_unchanged_to_the_bit(tmp_path: Path) -> None:
    patches(COLOURS).save(tmp_path / "x.png", icc_profile=rgb_profile(SRGB, None))
    assert (read_patches(tmp_path / "x.png") == COLOURS).all()


def half_bright(**options: object) -> Callable[[str, Path], None]:
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :20] = 250  # bright left; orientation 6 shows it turned clockwise: bright top
    exif = Image.Exif()
    exif[0x0112] = 6

    def save(kind: str, path: Path) -> None:
        Image.fromarray(pixels).save(path, kind, exif=exif.tobytes(), quality=95)

    return save


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_phone_pictures_are_read_and_turned_once(kind: str, tmp_path: Path) -> None:
    pillow_heif.register_heif_opener()  # to write one
    half_bright()(kind, tmp_path / "x.jpg")  # the suffix does not matter
    image = read_image(tmp_path / "x.jpg").astype(int)
    assert image.shape == (40, 20, 3)
    assert image[:18].min() > 235 > 20 > image[22:].max()


def test_a_phones_display_p3_is_converted(tmp_path: Path) -> None:
    pillow_heif.register_heif_opener()
    picture = patches(in_profile(COLOURS, DISPLAY_P3, None)).resize((320, 64), Image.Resampling.NEAREST)
    picture.save(tmp_path / "x.heic", "HEIF", quality=-1, icc_profile=rgb_profile(DISPLAY_P3, None))
    assert np.abs(read_image(tmp_path / "x.heic")[32, 32::64].astype(int) - COLOURS).max() <= 3


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
def test_the_range_of_floating_point_pictures_is_recognised(white: float, tmp_path: Path) -> None:
    values = np.array([[0, 0.25, 0.5, 1.0]], np.float32) * white
    Image.fromarray(values).save(tmp_path / "x.tif")
    assert read_image(tmp_path / "x.tif")[0, :, 0].tolist() == [0, 64, 128, 255]


def test_one_that_overshoots_white_a_little_is_not_black(tmp_path: Path) -> None:
    Image.fromarray(np.array([[-0.05, 0.5, 1.2]], np.float32)).save(tmp_path / "x.tif")
    assert read_image(tmp_path / "x.tif")[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([0.0, 1e9], "values from 0 to 1e\\+09"),
        ([-300.0, 20.0], "values from -300 to 20"),
        ([0.5, float("nan")], "no numbers"),
        ([0.5, float("inf")], "no numbers"),
    ],
)
def test_a_range_that_is_not_known_is_an_error_that_says_it(values: list[float], reason: str, tmp_path: Path) -> None:
    Image.fromarray(np.array([values], np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(ValueError, match=rf"x\.tif: .*{reason}"):
        read_image(tmp_path / "x.tif")


def test_a_tiff_that_pillow_cannot_read_is_not_called_another_format(tmp_path: Path) -> None:
    import cv2

    assert cv2.imwrite(str(tmp_path / "x.tif"), np.zeros((4, 4, 3), np.float32))
    with pytest.raises(ValueError, match=r"x\.tif is a TIFF of a kind that cannot be read"):
        read_image(tmp_path / "x.tif")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "HEIF", "AVIF", "BMP"])
def test_any_damage_is_a_reason_that_names_the_file(kind: str, tmp_path: Path) -> None:
    pillow_heif.register_heif_opener()
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, kind)
    reasons: list[str] = []
    data, path, rng = buffer.getvalue(), tmp_path / "x.img", np.random.default_rng(1)
    for _ in range(40):
        broken = bytearray(data[: rng.integers(1, len(data) + 1)])
        for at in rng.integers(0, len(broken), 4):
            broken[at] = rng.integers(256)
        path.write_bytes(broken)
        try:
            read_image(path)
        except ValueError as error:
            reasons.append(str(error))
    assert len(reasons) > 5
    assert all("x.img" in reason for reason in reasons)


@pytest.mark.parametrize("suffix", ["png", "JPG", "jpeg", "webp"])
def test_a_still_is_encoded_by_its_suffix_with_its_description(tmp_path: Path, suffix: str) -> None:
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    image = np.stack([np.tile(ramp, (48, 1)), np.full((48, 64), 90, np.uint8), np.tile(ramp[::-1], (48, 1))], -1)
    path = tmp_path / f"still.{suffix}"
    path.write_bytes(encode_still(image, path.name, "made of nothing"))
    assert np.abs(read_image(path).astype(int) - image).max() <= (0 if suffix == "png" else 12)
    with Image.open(path) as picture:
        assert picture.getexif()[0x010E] == "made of nothing"


def test_a_still_of_another_suffix_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a\.gif: the name of a picture ends with \.png, \.jpg, \.jpeg, \.webp"):
        encode_still(np.zeros((2, 2, 3), np.uint8), "a.gif")
