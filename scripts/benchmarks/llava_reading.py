"""Opening an annotation file in LLaVA's format, against `json.load` of it, as the original does in every process.

The file is made up: dialogues of 1 to 8 questions, 1.2 kB a row (LLaVA v1.5's have 1.5). Every variant runs in a
process of its own. `seconds` are of the processor; `MB` is what its memory grew by; `worker_MB` is what goes to a
worker process that is started afresh.
"""

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

WORDS = "the a red cube bowl on table is what how many where left right of image shown picture person dog sign".split()
PROGRAM = """
import json, pickle, resource, sys, time
from pathlib import Path
from vla.data.language.annotation_scan import read_annotations
memory = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
path, before, start = Path(sys.argv[1]), memory(), time.process_time()
rows = json.load(path.open()) if sys.argv[2] == "json" else read_annotations(path)
seconds, grown = time.process_time() - start, memory() - before
count = len(rows)
print(json.dumps({"seconds": seconds, "MB": grown, "worker_MB": len(pickle.dumps(rows)) / 1e6}))
assert count == int(sys.argv[3])
"""


def run(rows: int = 200_000, seed: int = 0) -> dict[str, Any]:
    """Make a file of `rows` rows, and open it three ways."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        _write(path, rows, seed)
        variants = {"json.load": "json", "indexed, first time": "index", "indexed, later": "index"}
        results = [{"name": name, **_measure(path, how, rows)} for name, how in variants.items()]
        size = path.stat().st_size / 1e6
    return {"rows": results, "baseline": "json.load", "measure": "seconds", "file_MB": size, "examples": rows}


def _measure(path: Path, how: str, rows: int) -> dict[str, float]:
    command = [sys.executable, "-c", PROGRAM, str(path), how, str(rows)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _write(path: Path, rows: int, seed: int) -> None:
    """Every 16th row is about no image, like those of LLaVA v1.5."""
    generator = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            turns = []
            for turn in range(generator.choice([1, 1, 2, 3, 5, 8])):
                question = ("<image>\n" if turn == 0 else "") + _text(generator, 5, 20)
                turns += [{"from": "human", "value": question}, {"from": "gpt", "value": _text(generator, 1, 90)}]
            row: dict[str, Any] = {"id": f"{number:012d}", "conversations": turns}
            if number % 16:
                row["image"] = f"coco/train2017/{number % 118_000:012d}.jpg"
            file.write(("[" if number == 0 else ", ") + json.dumps(row))
        file.write("]")


def _text(generator: random.Random, least: int, most: int) -> str:
    return " ".join(generator.choices(WORDS, k=generator.randint(least, most)))
