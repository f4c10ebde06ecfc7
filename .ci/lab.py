"""JupyterLab's configuration for `make lab`: quiet notebooks, which opening and saving do not change.

JupyterLab writes the kernel's name and the version of Python into each notebook that it opens, and marks it as changed. Here they are put in when a notebook is read, and taken out when it is saved."""

import os
from pathlib import Path

from ipykernel.ipkernel import IPythonKernel
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager

from globe.pipeline.notebooks import QUIET

spec = KernelSpecManager().get_kernel_spec("python3")
OPENED = dict(
    kernelspec=dict(display_name=spec.display_name, language=spec.language, name="python3"),
    language_info=IPythonKernel.language_info,
)
COMMITTED = dict(kernelspec=dict(display_name="python3", language="python", name="python3"))


class SameNotebooks(AsyncLargeFileManager):
    async def get(self, path, content=True, type=None, format=None, require_hash=False):
        model = await super().get(path, content, type, format, require_hash)
        if content and model["type"] == "notebook":
            model["content"]["metadata"].update(OPENED)
        return model

    async def save(self, model, path=""):
        if model["type"] == "notebook" and model.get("content"):
            metadata = model["content"]["metadata"]
            metadata.pop("language_info", None)
            metadata.update(COMMITTED)
        return await super().save(model, path)


c = get_config()  # noqa: F821 (jupyter defines it)
c.ServerApp.contents_manager_class = SameNotebooks
c.ServerApp.root_dir = os.getcwd()
c.ServerApp.allow_root = True
if any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv")):
    c.ServerApp.ip = "0.0.0.0"  # else a published port leads nowhere; the token is still asked for
    c.ServerApp.open_browser = False
os.environ.update(QUIET, JUPYTER_PREFER_ENV_PATH="1")  # kernels inherit it
