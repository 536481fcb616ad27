"""How soon a search of a folder with a million pictures can begin, and what it costs to begin again.

    python -m benchmarks.big_folder [--files N] [--folder DIR]

Makes class folders of hard links to a few small pictures, ImageNet's number by default, then times what a search does
with them before its first batch: listing the folder, numbering the classes, looking at headers; with an empty cache and
with a full one, and with a table of labels. Prints a table; the folder is removed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from benchmarks.harness import positive

N_CLASSES = 1000
N_SOURCES = 50  # a file system allows only so many names for one file


def make(root: Path, n_files: int) -> None:
    """Class folders with n_files pictures in all."""
    sources = []
    for number in range(N_SOURCES):
        sources.append(root.parent / f"{number}.png")
        Image.new("RGB", (8, 8), (5 * number, 0, 0)).save(sources[-1])
    for folder in range(N_CLASSES):
        (root / f"{folder:04d}").mkdir(parents=True)
    for number in range(n_files):
        os.link(sources[number % N_SOURCES], root / f"{number % N_CLASSES:04d}" / f"{number:08d}.png")


def label(root: Path, file: Path) -> None:
    """A table of the pictures and their classes."""
    lines = (f"{path.parent.name}/{path.name},{int(path.parent.name)}\n" for path in root.glob("*/*"))
    file.write_text("file,class\n" + "".join(lines), encoding="utf-8")


def begin(root: str, labels: str | None = None) -> None:
    """Print the seconds until the first picture, in a process of its own."""
    from torchvision.transforms.functional import pil_to_tensor

    from neuron_path.data.folder import ImageFolderDataset

    start, used = time.perf_counter(), time.process_time()
    data = ImageFolderDataset(root, pil_to_tensor, preprocessing={}, labels=labels)
    listed = time.perf_counter()
    data.check()
    checked = time.perf_counter()
    assert data[0]["image"] is not None
    seconds = (listed - start, checked - listed, time.perf_counter() - start, time.process_time() - used)
    print(len(data), *(f"{value:.2f}" for value in seconds))


def main() -> None:
    """Make the folder, time the starts, print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=positive, default=1_300_000, help="how many")
    parser.add_argument("--folder", help="where to make them; else where temporary files go")
    arguments = parser.parse_args()
    n_files = arguments.files
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        root, cache, labels = (Path(folder) / name for name in ("data", "cache", "labels.csv"))
        make(root, n_files)
        label(root, labels)
        print(f"{n_files} files are made; waiting until they are old enough to be remembered.", flush=True)
        time.sleep(5)
        for name, given in {
            "first start": (),
            "next start": (),
            "start with a table of labels": (str(labels),),
        }.items():
            code = f"from benchmarks.big_folder import begin; begin{(str(root), *given)}"
            ran = subprocess.run(
                [sys.executable, "-c", code],
                env={**os.environ, "XDG_CACHE_HOME": str(cache)},
                capture_output=True,
                text=True,
                check=True,
            )
            n, listed, checked, total, used = ran.stdout.split()
            print(
                f"{name}: {n} pictures, listed {listed} s, headers {checked} s, first picture after {total} s "
                f"({used} s of the processor)"
            )
        size = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
        print(f"cache: {size / 1e6:.1f} MB")
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
