"""Archives that go to their places, and those that should not."""

import zipfile
from pathlib import Path

import pytest
from PIL import Image

from vla.data.downloading import unpack as unpack_module
from vla.data.downloading.unpack import convert_to_jpg, unpack
from vla.errors import UserError


def write_zip(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_outer_folders_are_replaced(tmp_path: Path) -> None:
    files = {"train2017/": b"", "train2017/a.jpg": b"a", "train2017/sub/b.jpg": b"b", "__MACOSX/train2017/._a": b"x"}
    archive = write_zip(tmp_path / "x.zip", files, zipfile.ZIP_DEFLATED)
    told: list[tuple[int, int]] = []
    assert unpack(archive, tmp_path / "coco/train2017", progress=lambda *numbers: told.append(numbers)) == 2
    assert tree(tmp_path / "coco") == {"train2017/a.jpg": b"a", "train2017/sub/b.jpg": b"b"}
    assert told == [(1, 2), (2, 2)]
    archive = write_zip(tmp_path / "y.zip", {"a.jpg": b"a"})
    assert unpack(archive, tmp_path / "flat") == 1 and tree(tmp_path / "flat") == {"a.jpg": b"a"}
    deep = write_zip(tmp_path / "z.zip", {"a/b/c.jpg": b"c", "a/b/d.jpg": b"d"})
    unpack(deep, tmp_path / "deep")
    assert set(tree(tmp_path / "deep")) == {"c.jpg", "d.jpg"}


def test_folders_can_stay(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "x.zip", {"00000/a.jpg": b"a"})
    unpack(archive, tmp_path / "out", strip=False)
    assert tree(tmp_path / "out") == {"00000/a.jpg": b"a"}


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "x.zip", {"t/a.jpg": b"new", "t/b.jpg": b"whole"})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.jpg").write_bytes(b"old")
    (tmp_path / "out" / "b.jpg").write_bytes(b"who")
    unpack(archive, tmp_path / "out")
    assert tree(tmp_path / "out") == {"a.jpg": b"old", "b.jpg": b"whole"}


def test_a_damaged_file_inside(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "x.zip", {"t/a.jpg": b"a" * 1000, "t/b.jpg": b"b" * 1000})
    content = archive.read_bytes()
    archive.write_bytes(content.replace(b"b" * 1000, b"b" * 500 + b"c" * 500))
    with pytest.raises(UserError, match=r"x.zip: damaged, or no zip archive \(Bad CRC-32 for file 't/b.jpg'\)"):
        unpack(archive, tmp_path / "out")
    assert set(tree(tmp_path / "out")) == {"a.jpg"}  # the damaged one would look whole to the next call


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(UserError, match=r"x.zip: damaged, or no zip archive .*delete it") as raised:
        unpack(tmp_path / "x.zip", tmp_path / "out")
    assert "\n" not in str(raised.value)


def test_an_archive_that_was_cut_off(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "x.zip", {f"t/{n}.jpg": b"a" * 1000 for n in range(9)})
    archive.write_bytes(archive.read_bytes()[:5000])
    with pytest.raises(UserError, match="damaged, or no zip archive"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("name", ["../out.jpg", "t/../../out.jpg", "/etc/out.jpg"])
def test_paths_that_lead_out(tmp_path: Path, name: str) -> None:
    archive = write_zip(tmp_path / "x.zip", {"t/a.jpg": b"a", name: b"b"})
    with pytest.raises(UserError, match="holds a path that leads out of it"):
        unpack(archive, tmp_path / "out" / "in")
    assert not (tmp_path / "out.jpg").exists() and not (tmp_path / "out" / "out.jpg").exists()


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_zip(tmp_path / "x.zip", {"t/a.jpg": b"a" * 1000})
    usage = unpack_module.shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(unpack_module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"^root: .* are needed to unpack"):
        unpack(archive, tmp_path / "out")


def test_images_become_jpg(tmp_path: Path) -> None:
    red, blue = Image.new("RGB", (20, 10), (200, 0, 0)), Image.new("RGB", (20, 10), (0, 0, 200))
    red.convert("P").save(tmp_path / "a.gif", save_all=True, append_images=[blue.convert("P")])
    blue.convert("RGBA").save(tmp_path / "b.png")
    red.save(tmp_path / "c.jpg")
    red.save(tmp_path / "d.png")
    red.save(tmp_path / "d.jpg")
    before = (tmp_path / "d.jpg").read_bytes()
    (tmp_path / "e.gif").write_bytes(b"no picture")
    (tmp_path / "list.txt").write_text("a list")
    written, failed = convert_to_jpg(tmp_path)
    assert (written, failed) == (2, ["e.gif", "list.txt"])
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.format == "JPEG" and image.getpixel((5, 5))[0] > 150  # the first picture
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.getpixel((5, 5))[2] > 150
    assert (tmp_path / "d.jpg").read_bytes() == before
    assert not list(tmp_path.glob(".*"))
    assert convert_to_jpg(tmp_path) == (0, ["e.gif", "list.txt"])
