"""scripts/data.py download against a local server: every part in its place, recorded, and fetched once."""

import io
import json
import runpy
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from files_server import Files
from PIL import Image

from vla.conf.download import SOURCES, DownloadConfig, Source
from vla.data.downloading import command
from vla.data.downloading.command import download, record_path
from vla.data.downloading.fetch import check_file, fetch

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "data.py"
ROWS = [{"image": "00000/a.jpg", "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}]
INNER = {  # folders of the images in each archive
    "chat-images": "00000", "coco": "train2017", "gqa": "images", "ocr-vqa": "ocr_vqa/images",
    "textvqa": "train_images", "vg": "VG_100K", "vg-2": "VG_100K_2", "coco-val": "val2017",
}  # fmt: skip
PLACES = {
    "chat-images": "llava-laion-cc-sbu-558k/00000", "coco": "llava-v1.5-instruct/coco/train2017",
    "gqa": "llava-v1.5-instruct/gqa/images", "ocr-vqa": "llava-v1.5-instruct/ocr_vqa/images",
    "textvqa": "llava-v1.5-instruct/textvqa/train_images", "vg": "llava-v1.5-instruct/vg/VG_100K",
    "vg-2": "llava-v1.5-instruct/vg/VG_100K_2", "coco-val": "llava-v1.5-instruct/coco/val2017",
}  # fmt: skip


def picture(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (6, 4), (9, 9, 9)).save(file, kind)
    return file.getvalue()


def archive_of(source: Source) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{INNER[source.name]}/a.jpg", picture("jpeg"))
        archive.writestr(f"{INNER[source.name]}/b.{'png' if source.to_jpg else 'jpg'}", picture("png"))
    return file.getvalue()


@pytest.fixture
def published(server: Files, monkeypatch: pytest.MonkeyPatch) -> Files:
    """Everything that can be asked for, much smaller; sums that were published for the real files don't fit."""
    for source in (source for sources in SOURCES.values() for source in sources):
        is_archive = source.content == "images"
        server.content[urlsplit(source.url).path] = archive_of(source) if is_archive else json.dumps(ROWS).encode()
    monkeypatch.setattr(command, "fetch", lambda *arguments, md5, **options: fetch(*arguments, **options))
    return server


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], int]:
    monkeypatch.setattr(sys, "argv", ["data.py"])
    return runpy.run_path(str(SCRIPT))["main"]


def config(server: Files, root: Path, **values: object) -> DownloadConfig:
    return DownloadConfig(root=root, mirror=server.address, **values)


def test_every_part_in_its_place(published: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for dataset in SOURCES:
        assert download(config(published, tmp_path, dataset=dataset)) == 0
    folder = tmp_path / "download"
    for name, place in PLACES.items():
        suffix = "png" if name == "ocr-vqa" else "jpg"
        assert {path.name for path in (folder / place).iterdir()} >= {"a.jpg", f"b.{suffix}", "b.jpg"}, name
    for path in ("llava-laion-cc-sbu-558k/chat.json", "llava-v1.5-instruct/llava_v1_5_mix665k.json",
                 "llava-v1.5-instruct/lvis_instruct4v_220k.json"):  # fmt: skip
        assert json.loads((folder / path).read_text()) == ROWS
    assert not list(folder.rglob("*.zip")) and not list(folder.rglob("*.partial*"))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 11 and all(": fetched, " in line and "sha256" in line for line in lines)
    published.requests.clear()
    assert download(config(published, tmp_path)) == 0
    assert not published.requests
    assert all(": is there, " in line for line in capsys.readouterr().out.splitlines())


def test_what_is_recorded(published: Files, tmp_path: Path) -> None:
    download(config(published, tmp_path, part=("chat", "ocr-vqa"), keep_archives=True))
    chat, images = (source for source in SOURCES["llava-v15"] if source.name in ("chat", "ocr-vqa"))
    record = json.loads(record_path(tmp_path / chat.folder, chat).read_text())
    found = check_file(tmp_path / chat.folder / "chat.json", "chat.json", sha256=record["sha256"])
    assert (record["size"], record["rows"], record["url"]) == (found.size, 1, chat.url)
    record = json.loads(record_path(tmp_path / images.folder, images).read_text())
    assert (record["files"], record["converted"]) == (2, 1)
    assert record["checked"] == "size and every file's CRC-32"
    check_file(tmp_path / images.folder / "ocr-vqa.zip", "", sha256=record["sha256"])


def test_parts_and_stages(server: Files) -> None:
    def names(*parts: str) -> list[str]:
        return [source.name for source in DownloadConfig(part=parts).sources]

    assert names("align") == ["chat", "chat-images"] and len(names()) == 9
    assert names("vg", "coco") == ["coco", "vg"] and len(names("finetune", "coco")) == 7


def test_an_interrupted_download_goes_on(published: Files, tmp_path: Path, main: Callable) -> None:
    words = ["download", "--root", str(tmp_path), "--mirror", published.address, "--retries", "0"]
    published.break_after = [10**9, 30, 0]
    assert main([*words, "--part", "align"]) == 2
    assert (tmp_path / "download/llava-laion-cc-sbu-558k/chat.json").exists()
    published.requests.clear()
    assert main([*words, "--part", "align"]) == 0
    assert [asked for _, asked in published.requests] == ["bytes=30-"]


def interrupt(*_: object, **__: object) -> int:
    raise KeyboardInterrupt


def test_an_interrupted_unpacking_goes_on(published: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(command, "unpack", interrupt)
        with pytest.raises(KeyboardInterrupt):
            download(config(published, tmp_path, part=("vg",)))
    published.requests.clear()
    download(config(published, tmp_path, part=("vg",)))
    assert not published.requests  # the archive was there, whole
    assert len(list((tmp_path / "download" / PLACES["vg"]).iterdir())) == 2


def test_a_published_sum_is_compared(server: Files, tmp_path: Path, main: Callable, capsys) -> None:
    server.content["/zips/train2017.zip"] = archive_of(SOURCES["llava-v15"][3])
    words = ["download", "--root", str(tmp_path), "--mirror", server.address, "--part", "coco"]
    assert main(words) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: coco.zip: its md5 is ") and "cced6f7f71b7629ddf16f17bbcfab6b2" in err
    assert err.count("\n") == 1 and not (tmp_path / "download/llava-v1.5-instruct/coco").exists()


def test_an_annotation_file_that_is_none(published: Files, tmp_path: Path, main: Callable, capsys) -> None:
    path = urlsplit(SOURCES["llava-v15"][0].url).path
    published.content[path] = b"<html>come back later</html>"
    assert main(["download", "--root", str(tmp_path), "--mirror", published.address, "--part", "chat"]) == 2
    assert "chat.json: must hold a JSON list of rows; it has 28 bytes; delete it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("download --dataset llava", "dataset: must be one of llava-v15, lvis-instruct-4v, got 'llava'"),
        ("download --part coko", "part: must be of align, finetune, chat, chat-images, mix665k, coco, gqa, ocr-vqa, "),
        ("download --mirror here", "mirror: must begin with http:// or https://, got 'here'"),
        ("download --retries -1", "retries: must be >= 0, got -1"),
        ("mix --dataset llava-v15", "dataset: must be one of llava-multimodal, llava-lvis4v, llava-lrv, llava-lvis4v-"),
    ],
)
def test_wrong_options_are_refused_in_one_line(main: Callable, capsys, words: str, message: str) -> None:
    assert main(words.split()) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"error: {message}") and line.count("\n") == 1


def test_published_addresses() -> None:
    """Names and places that annotations and the datasets' paths rely on."""
    sources = {source.name: source for source in SOURCES["llava-v15"]}
    assert sources["coco"].url == "http://images.cocodataset.org/zips/train2017.zip"
    assert {f"{source.folder}/{source.target}" for source in sources.values() if source.stage == "align"} == {
        "download/llava-laion-cc-sbu-558k/chat.json", "download/llava-laion-cc-sbu-558k/."}  # fmt: skip
    assert [source.name for source in sources.values() if source.to_jpg] == ["ocr-vqa"]
    assert len({urlsplit(source.url).path for every in SOURCES.values() for source in every}) == 11
