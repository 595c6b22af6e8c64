"""The size of the package, and what common jobs import and enter of it.

    python tests/structure.py

A file is entered when one of its functions runs. Each job runs in a process of its own, on generated data.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "segmnv2"

TRACE = """
import json, sys
from pathlib import Path
entered = set()
def look(frame, event, _):
    if event == "call" and frame.f_code.co_flags & 1:  # of a function, not of a module or class
        entered.add(frame.f_code.co_filename)
import threading
threading.setprofile(look)
sys.setprofile(look)
{job}
sys.setprofile(None)
package = {package!r}
modules = [name for name in sys.modules if name.split(".")[0] == "segmnv2"]
print(json.dumps([len([file for file in entered if file.startswith(package)]), len(modules)]))
"""

WEIGHTS = """
import torch
from segmnv2.models.model_file import save_model
from segmnv2.models.zoo import create_model
save_model("model.safetensors", create_model("deeplabv3_mobilenet_v2", width=0.35).eval())
import numpy, PIL.Image
PIL.Image.fromarray(numpy.zeros((90, 120, 3), numpy.uint8)).save("a.png")
"""

INFER = """
from segmnv2.cli import main
assert main(["infer", "a.png", "--weights", "model.safetensors", "--out", "results", "--device", "cpu"]) == 0
"""

TRAIN = """
from segmnv2.cli import main
short = ["steps=1", "data.batch_size=2", "data.num_workers=0", "validation.limit=1", "log.pictures=0", "device=cpu"]
assert main(["train", "shapes", "--out", "run", *(word for each in short for word in ("-o", each))]) == 0
"""


def main() -> None:
    """Print the table."""
    files = sorted(PACKAGE.rglob("*.py"))
    lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)
    (room, largest), *_ = Counter(file.parent.name for file in files).most_common(1)
    twice = [name for name, count in Counter(file.name for file in files).items() if count > 1]
    print(f"| files | {len(files)} |\n|---|---|\n| lines | {lines} |")
    print(f"| files in the largest room, {room} | {largest} |")
    print(f"| file names used more than once | {', '.join(sorted(set(twice) - {'__init__.py'})) or 'none'} |")
    with tempfile.TemporaryDirectory() as folder:
        run(WEIGHTS, Path(folder))
        for title, job in (("`segmnv2 infer a.png`", INFER), ("one training step and validation", TRAIN)):
            entered, imported = run(job, Path(folder))
            print(f"| {title}: files entered / modules imported | {entered} / {imported} |")


def run(job: str, folder: Path) -> tuple[int, int]:
    """Return how many of the package's files a job enters, and how many of its modules it imports."""
    program = TRACE.format(job=job, package=str(PACKAGE))
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, check=True, capture_output=True, text=True)
    entered, imported = json.loads(done.stdout.splitlines()[-1])
    return entered, imported


if __name__ == "__main__":
    main()
