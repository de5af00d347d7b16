import io
import os
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmref.data import images
from mmref.data.dataset import RetrievalDataset, build_table
from mmref.data.images import (
    check_skipped,
    image_array,
    load_batch,
    load_image,
    load_pixels,
)
from mmref.errors import DataError, ImageError

RED = (255, 0, 0)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels to speak of."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def noise(path: Path, size: tuple[int, int] = (40, 30)) -> Path:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)
    return path


def dataset(root: Path, names: list[str], matrix: np.ndarray | None = None) -> RetrievalDataset:
    rows = list(range(len(names))) if matrix is not None else None
    table = build_table(
        names, [["x"]] * len(names), names, ["train"] * len(names), feature_rows=rows
    )
    return RetrievalDataset(table, root, "set", "manifest", matrix)


class TestModes:
    def test_rgb_is_unchanged(self, tmp_path: Path) -> None:
        path = noise(tmp_path / "a.png")
        with Image.open(path) as image:
            assert np.array_equal(np.asarray(load_image(path)), np.asarray(image))

    def test_a_path_bytes_and_an_image_give_the_same(self, tmp_path: Path) -> None:
        path = noise(tmp_path / "a.png")
        with Image.open(path) as image:
            given = np.asarray(load_image(image))
        assert np.array_equal(np.asarray(load_image(str(path))), given)
        assert np.array_equal(np.asarray(load_image(path.read_bytes())), given)

    def test_a_given_image_is_not_returned_itself(self) -> None:
        image = Image.new("RGB", (2, 2))
        load_image(image).putpixel((0, 0), RED)
        assert image.getpixel((0, 0)) == (0, 0, 0)

    @pytest.mark.parametrize("mode", ["RGBA", "LA"])
    def test_transparency_lies_over_white(self, tmp_path: Path, mode: str) -> None:
        colour = (0, 0, 0) if mode == "RGBA" else (0,)
        image = Image.new(mode, (3, 1), (*colour, 0))
        image.putpixel((1, 0), (*colour, 255))
        image.putpixel((2, 0), (*colour, 128))
        image.save(tmp_path / "a.png")
        found = load_image(tmp_path / "a.png")
        assert [found.getpixel((x, 0))[0] for x in range(3)] == [255, 0, 127]

    def test_palette_with_transparency(self, tmp_path: Path) -> None:
        image = Image.new("P", (2, 1))
        image.putpalette([0, 0, 0, 255, 0, 0])
        image.putpixel((1, 0), 1)
        image.save(tmp_path / "a.png", transparency=0)
        found = load_image(tmp_path / "a.png")
        assert (found.getpixel((0, 0)), found.getpixel((1, 0))) == ((255, 255, 255), RED)

    def test_rgb_with_a_transparent_colour(self, tmp_path: Path) -> None:
        image = Image.new("RGB", (2, 1), RED)
        image.putpixel((1, 0), (0, 0, 9))
        image.save(tmp_path / "a.png", transparency=(0, 0, 9))
        found = load_image(tmp_path / "a.png")
        assert (found.getpixel((0, 0)), found.getpixel((1, 0))) == (RED, (255, 255, 255))

    def test_sixteen_bit_grey_is_scaled_not_clipped(self, tmp_path: Path) -> None:
        values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
        for suffix in ("png", "tiff"):
            Image.fromarray(values).save(tmp_path / f"a.{suffix}")
            found = np.asarray(load_image(tmp_path / f"a.{suffix}"))[0, :, 0]
            assert found.tolist() == [0, 1, 128, 255]

    def test_deep_greys_in_other_modes(self) -> None:
        cases = [
            (np.array([[0, 65535]], dtype=np.int32), [0, 255]),
            (np.array([[-10, 10**6 - 10]], dtype=np.int32), [0, 255]),
            (np.array([[0.0, 0.5, 1.0]], dtype=np.float32), [0, 128, 255]),
            (np.array([[0.0, 100.0, np.nan]], dtype=np.float32), [0, 100, 0]),
            (np.array([[-1.0, 0.0, 1.0]], dtype=np.float32), [0, 128, 255]),
        ]
        for values, expected in cases:
            assert np.asarray(load_image(Image.fromarray(values)))[0, :, 0].tolist() == expected

    def test_one_bit_and_cmyk(self, tmp_path: Path) -> None:
        Image.new("1", (2, 2), 1).save(tmp_path / "a.png")
        assert load_image(tmp_path / "a.png").getpixel((1, 1)) == (255, 255, 255)
        Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
        red, green, blue = load_image(tmp_path / "a.jpg").getpixel((8, 8))
        assert red > 230 and green < 30 and blue < 30

    def test_the_first_frame_of_an_animation(self, tmp_path: Path) -> None:
        frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, (0, 255, 0))]
        for suffix in ("gif", "webp"):
            path = tmp_path / f"a.{suffix}"
            options = {"lossless": True} if suffix == "webp" else {}
            frames[0].save(path, save_all=True, append_images=frames[1:], **options)
            assert load_image(path).getpixel((0, 0)) == RED

    def test_exif_orientation(self, tmp_path: Path) -> None:
        image = Image.new("RGB", (4, 2))
        image.putpixel((0, 0), RED)
        exif = Image.Exif()
        exif[0x0112] = 6  # stored turned to the left
        image.save(tmp_path / "a.png", exif=exif)
        found = load_image(tmp_path / "a.png")
        assert (found.size, found.getpixel((1, 0))) == ((2, 4), RED)

    def test_damaged_exif_does_not_spoil_the_picture(self, tmp_path: Path) -> None:
        Image.new("RGB", (4, 2), RED).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff")
        assert load_image(tmp_path / "a.png").size == (4, 2)


class TestRefusals:
    def refuse(self, source: object, reason: str, **options: int) -> None:
        with pytest.raises(ImageError) as caught:
            load_image(source, **options)  # type: ignore[arg-type]
        message = str(caught.value)
        assert reason in message and message.isprintable()

    def test_files_that_are_no_images(self, tmp_path: Path) -> None:
        (tmp_path / "zero.png").touch()
        (tmp_path / "text.png").write_text("hello, this is a text")
        (tmp_path / "page.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
        self.refuse(tmp_path / "zero.png", "zero.png: empty file")
        self.refuse(tmp_path / "text.png", "not an image")
        self.refuse(tmp_path / "page.eps", "not an image")
        self.refuse(tmp_path, "a folder")
        self.refuse(tmp_path / "none.png", "none.png: missing")
        self.refuse(tmp_path / "zero.png" / "below.png", "missing")
        self.refuse(tmp_path / ("x" * 300), "too long")
        self.refuse("a\0b.png", "not a possible path")
        self.refuse("a\nb.png", r"'a\nb.png': missing")
        self.refuse(b"", "empty file")

    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.png")
        self.refuse(tmp_path / "pipe.png", "not a regular file")

    def test_no_permission(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def denied(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        path = noise(tmp_path / "a.png")
        monkeypatch.setattr(Path, "open", denied)
        self.refuse(path, "no permission")

    @pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp", "tiff"])
    def test_truncated(self, tmp_path: Path, suffix: str) -> None:
        content = noise(tmp_path / f"a.{suffix}").read_bytes()
        for share in (0.3, 0.6):
            self.refuse(content[: int(len(content) * share)], "")

    def test_every_cut_and_flipped_byte_gives_pixels_or_image_error(self, tmp_path: Path) -> None:
        for suffix in ("png", "jpg", "gif"):
            content = noise(tmp_path / f"a.{suffix}", (9, 7)).read_bytes()
            rng = np.random.default_rng(1)
            refused = 0
            for _ in range(60):
                broken = bytearray(content)
                broken[rng.integers(0, min(len(broken), 400))] ^= int(rng.integers(1, 256))
                try:
                    assert load_image(bytes(broken)).mode == "RGB"
                except ImageError:
                    refused += 1
            assert refused > 0

    def test_the_bound_is_checked_in_the_header(self, tmp_path: Path) -> None:
        self.refuse(png_header(50_000, 50_000), "too large (2,500 megapixels, the bound is 64)")
        self.refuse(png_header(9_000, 8_000), "too large (72 megapixels")
        self.refuse(Image.new("1", (100, 100)), "too large", max_pixels=9_999)
        assert load_image(Image.new("1", (100, 100)), max_pixels=10_000).size == (100, 100)

    def test_pillows_own_warning_is_an_image_error(self) -> None:
        self.refuse(png_header(11_000, 9_000), "too large (99 megapixels")

    def test_the_bound_holds_before_pixels_are_decoded(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def never(*_: object) -> None:
            raise AssertionError("decoded")

        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", never)
        self.refuse(png_header(9_000, 8_000), "too large")


class TestSizes:
    def test_layout_is_channels_first(self) -> None:
        image = Image.new("RGB", (2, 1), (1, 2, 3))
        image.putpixel((1, 0), (4, 5, 6))
        found = image_array(image, (1, 2))
        assert found.tolist() == [[[1, 4]], [[2, 5]], [[3, 6]]]
        assert found.dtype == np.uint8 and found.flags["C_CONTIGUOUS"]

    def test_scaling_down_is_antialiased(self) -> None:
        stripes = np.zeros((64, 64, 3), dtype=np.uint8)
        stripes[:, ::2] = 255
        found = image_array(Image.fromarray(stripes), (8, 8))
        assert found.min() > 100 and found.max() < 155

    def test_a_large_jpeg_is_decoded_small_and_looks_the_same(self, tmp_path: Path) -> None:
        ramp = np.linspace(0, 255, 1600, dtype=np.uint8)
        image = Image.fromarray(np.broadcast_to(ramp[None, :, None], (1200, 1600, 3)).copy())
        image.save(tmp_path / "a.jpg", quality=95)
        near = load_image(tmp_path / "a.jpg", near=(64, 64))
        assert near.size == (200, 150)
        full = image_array(load_image(tmp_path / "a.jpg"), (64, 64)).astype(int)
        assert np.abs(image_array(near, (64, 64)).astype(int) - full).max() <= 6

    def test_a_turned_jpeg_keeps_enough_pixels(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (1600, 400)).save(tmp_path / "a.jpg", exif=exif)
        width, height = load_image(tmp_path / "a.jpg", near=(128, 64)).size
        assert height > width and height >= 128 and width >= 64


class TestBatches:
    def sources(self, root: Path) -> list[Path]:
        for name in ("a", "b", "c"):
            Image.new("RGB", (8, 8), (ord(name), 0, 0)).save(root / f"{name}.png")
        (root / "bad.png").write_bytes(b"\x89PNG nothing")
        return [root / n for n in ("a.png", "bad.png", "b.png", "none.png", "c.png")]

    @pytest.mark.parametrize("workers", [1, 3])
    def test_bad_files_are_left_out_and_named(self, tmp_path: Path, workers: int) -> None:
        loaded = load_batch(self.sources(tmp_path), (4, 6), workers=workers)
        assert loaded.pixels.shape == (3, 3, 4, 6)
        assert loaded.pixels[:, 0, 0, 0].tolist() == [ord(name) for name in "abc"]
        assert loaded.kept == [0, 2, 4]
        assert [Path(skip.path).name for skip in loaded.skipped] == ["bad.png", "none.png"]
        assert [skip.reason for skip in loaded.skipped] == ["not an image", "missing"]

    def test_each_source_is_tried_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tried: list[object] = []
        real = images._open

        def counted(source: str) -> object:
            tried.append(source)
            return real(source)

        monkeypatch.setattr(images, "_open", counted)
        sources = self.sources(tmp_path)
        load_batch(sources, (4, 4), workers=2)
        assert sorted(map(str, tried)) == sorted(map(str, sources))

    def test_nothing_and_nothing_good(self) -> None:
        assert load_batch([], (4, 4)).pixels.shape == (0, 3, 4, 4)
        loaded = load_batch([b"x", b""], (4, 4))
        assert (loaded.pixels.shape, loaded.kept) == ((0, 3, 4, 4), [])

    def test_decoding_uses_threads(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        barrier = threading.Barrier(2, timeout=10)
        real = images._open

        def together(source: str) -> object:
            barrier.wait()  # broken, and so an error, if only one thread comes
            return real(source)

        monkeypatch.setattr(images, "_open", together)
        Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
        assert load_batch([tmp_path / "a.png"] * 2, (4, 4), workers=2).kept == [0, 1]


class TestLoadPixels:
    def test_whole_data_set(self, tmp_path: Path) -> None:
        for index in range(12):
            Image.new("RGB", (8, 8), (index, 0, 0)).save(tmp_path / f"{index}.png")
        (tmp_path / "5.png").write_bytes(b"x")
        seen: list[tuple[int, int]] = []
        names = [f"{index}.png" for index in range(12)]
        cache = load_pixels(
            dataset(tmp_path, names),
            (2, 3),
            progress=lambda done, total: seen.append((done, total)),
        )
        rows = [index for index in range(12) if index != 5]
        assert cache.rows.tolist() == rows
        assert cache.pixels.shape == (11, 3, 2, 3) and cache.pixels[:, 0, 0, 0].tolist() == rows
        assert [(Path(skip.path).name, skip.reason) for skip in cache.skipped] == [
            ("5.png", "not an image")
        ]
        assert seen == [(12, 12)]

    def test_many_chunks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(images, "_CHUNK", 2)
        for index in range(5):
            Image.new("RGB", (2, 2), (index, 0, 0)).save(tmp_path / f"{index}.png")
        (tmp_path / "1.png").write_bytes(b"x")
        names = [f"{index}.png" for index in range(5)]
        cache = load_pixels(dataset(tmp_path, names), (2, 2), max_bad_share=0.2)
        assert cache.rows.tolist() == cache.pixels[:, 0, 0, 0].tolist() == [0, 2, 3, 4]

    def test_on_disk_above_the_limit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        path = noise(tmp_path / "a.png")
        small = load_pixels(dataset(tmp_path, [path.name]), (8, 8))
        large = load_pixels(dataset(tmp_path, [path.name]), (8, 8), memory_limit=10)
        assert isinstance(large.pixels, np.memmap) and not isinstance(small.pixels, np.memmap)
        assert np.array_equal(small.pixels, large.pixels)
        assert [file.name for file in tmp_path.iterdir()] == ["a.png"]

    def test_a_full_disk_is_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.posix_fallocate", full)
        path = noise(tmp_path / "a.png")
        with pytest.raises(DataError, match=r"No space left on device.*TMPDIR"):
            load_pixels(dataset(tmp_path, [path.name]), (8, 8), memory_limit=10)

    def test_too_many_bad_files(self, tmp_path: Path) -> None:
        noise(tmp_path / "a.png")
        data = dataset(tmp_path, ["a.png", "none.png"])
        with pytest.raises(DataError, match=r"1 of 2 images.*none\.png: missing"):
            load_pixels(data, (4, 4))
        assert load_pixels(data, (4, 4), max_bad_share=0.5).rows.tolist() == [0]

    def test_features_only_is_refused(self, tmp_path: Path) -> None:
        data = dataset(tmp_path, ["one"], np.zeros((1, 3), dtype=np.float32))
        with pytest.raises(DataError, match="features encoder"):
            load_pixels(data, (4, 4))

    def test_check_skipped_at_its_bound(self) -> None:
        skip = images.SkippedImage("a.png", "missing")
        check_skipped([skip], total=10)
        with pytest.raises(DataError, match="2 of 10"):
            check_skipped([skip] * 2, total=10)
        with pytest.raises(DataError, match="1 of 1"):
            check_skipped([skip], total=1, max_bad_share=1.0)


def test_formats_are_those_that_this_pillow_has() -> None:
    assert {"JPEG", "PNG", "GIF", "WEBP"} <= set(images._formats())
    assert "EPS" not in images._formats()


def test_a_jpeg_in_memory() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), RED).save(buffer, "JPEG")
    assert load_image(buffer.getvalue()).size == (16, 16)
