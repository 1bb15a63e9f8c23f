"""`DownloadConfig` and `MixConfig`: published image-text data, where it is, and what to fetch or put together."""

from dataclasses import dataclass
from pathlib import Path

from vla.conf.checks import require, require_choice, require_nonnegative

ALIGN_FOLDER = Path("download/llava-laion-cc-sbu-558k")
INSTRUCT_FOLDER = Path("download/llava-v1.5-instruct")
_HUB = "https://huggingface.co/datasets"


@dataclass(frozen=True)
class Source:
    """A published file.

    Attributes:
        name: how users call it.
        stage: align | finetune, the stages that it is for.
        url: where it is.
        folder: below the root, of the file and of what is in it.
        target: below `folder`, the file itself, or the folder that takes the place of the archive's outermost ones.
        content: annotations (a JSON list) | images (a zip archive).
        md5: as published; "" where nobody has published any. (The hub states SHA-256 sums of its files by itself.)
        to_jpg: whether the images, of several formats, are all asked for as .jpg.
    """

    name: str
    stage: str
    url: str
    folder: Path
    target: str
    content: str = "images"
    md5: str = ""
    to_jpg: bool = False


SOURCES: dict[str, tuple[Source, ...]] = {
    "llava-v15": (
        Source(
            "chat", "align", f"{_HUB}/liuhaotian/LLaVA-Pretrain/resolve/main/blip_laion_cc_sbu_558k.json",
            ALIGN_FOLDER, "chat.json", "annotations",
        ),
        Source("chat-images", "align", f"{_HUB}/liuhaotian/LLaVA-Pretrain/resolve/main/images.zip", ALIGN_FOLDER, "."),
        Source(
            "mix665k", "finetune", f"{_HUB}/liuhaotian/LLaVA-Instruct-150K/resolve/main/llava_v1_5_mix665k.json",
            INSTRUCT_FOLDER, "llava_v1_5_mix665k.json", "annotations",
        ),
        Source(
            "coco", "finetune", "http://images.cocodataset.org/zips/train2017.zip", INSTRUCT_FOLDER, "coco/train2017",
            md5="cced6f7f71b7629ddf16f17bbcfab6b2",
        ),
        Source(
            "gqa", "finetune", "https://downloads.cs.stanford.edu/nlp/data/gqa/images.zip", INSTRUCT_FOLDER,
            "gqa/images",
        ),
        Source(
            "ocr-vqa", "finetune", f"{_HUB}/qnguyen3/ocr_vqa/resolve/main/ocr_vqa.zip", INSTRUCT_FOLDER,
            "ocr_vqa/images", to_jpg=True,
        ),
        Source(
            "textvqa", "finetune", "https://dl.fbaipublicfiles.com/textvqa/images/train_val_images.zip",
            INSTRUCT_FOLDER, "textvqa/train_images",
        ),
        Source(
            "vg", "finetune", "https://cs.stanford.edu/people/rak248/VG_100K_2/images.zip", INSTRUCT_FOLDER,
            "vg/VG_100K",
        ),
        Source(
            "vg-2", "finetune", "https://cs.stanford.edu/people/rak248/VG_100K_2/images2.zip", INSTRUCT_FOLDER,
            "vg/VG_100K_2",
        ),
    ),
    "lvis-instruct-4v": (
        Source(
            "lvis4v", "finetune", f"{_HUB}/X2FD/LVIS-Instruct4V/resolve/main/lvis_instruct4v_220k.json",
            INSTRUCT_FOLDER, "lvis_instruct4v_220k.json", "annotations",
        ),
        Source(
            "coco-val", "finetune", "http://images.cocodataset.org/zips/val2017.zip", INSTRUCT_FOLDER, "coco/val2017",
            md5="442b8da7639aecaf257c1dceb8ba8c80",
        ),
    ),
}  # fmt: skip
STAGES = ("align", "finetune")
MIXES = ("llava-multimodal", "llava-lvis4v", "llava-lrv", "llava-lvis4v-lrv")


@dataclass(frozen=True)
class DownloadConfig:
    """Fetch published image-text data, check it, and unpack it to where the datasets' paths say."""

    dataset: str = "llava-v15"  # llava-v15 | lvis-instruct-4v
    root: Path = Path("data")  # folder; everything goes below its download/
    part: tuple[str, ...] = ()  # align, finetune, or parts such as coco,gqa (a wrong name lists them); none: all
    keep_archives: bool = False  # keep zip files once they are unpacked
    retries: int = 5  # times that a transfer which broke is taken up again without any byte coming
    mirror: str | None = None  # address that takes the place of every file's https://host

    def __post_init__(self) -> None:
        require_choice(self, "dataset", tuple(SOURCES))
        require_nonnegative(self, "retries")
        known = (*STAGES, *(source.name for source in SOURCES[self.dataset]))
        for name in self.part:
            require("part", name in known, f"must be of {', '.join(known)}", name)
        if self.mirror is not None:
            is_address = self.mirror.startswith(("http://", "https://"))
            require("mirror", is_address, "must begin with http:// or https://", self.mirror)

    @property
    def sources(self) -> list[Source]:
        """What is asked for, in the table's order."""
        return [
            source
            for source in SOURCES[self.dataset]
            if not self.part or source.name in self.part or source.stage in self.part
        ]


@dataclass(frozen=True)
class MixConfig:
    """Put the annotation file of a published mixture together from the files of its parts."""

    dataset: str = "llava-lvis4v"  # llava-multimodal | llava-lvis4v | llava-lrv | llava-lvis4v-lrv
    root: Path = Path("data")  # folder with download/llava-v1.5-instruct
    check_images: bool = True  # make sure that the images of the rows that are added are there

    def __post_init__(self) -> None:
        require_choice(self, "dataset", MIXES)
