"""The Jupyter kernel of the interpreter that runs this, whatever kernels others have put on Jupyter's paths."""

import shutil
import sys
import tempfile
import weakref
from typing import Any

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

NAME = "python3"
"""What notebooks call their kernel."""


class OwnKernel(AsyncKernelManager):
    """Starts kernels of this interpreter; a module of a cluster or a profile of Nix may have another by the same name."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # An empty profile: the user's own may not be writable, and its start-up files would run in every notebook.
        self._profile = tempfile.mkdtemp(prefix="mfr-kernel-")
        weakref.finalize(self, shutil.rmtree, self._profile, ignore_errors=True)

    @property
    def kernel_spec(self) -> KernelSpec:
        """How the kernel is started."""
        # A kernel warns that it does not encrypt, and now and then logs as an error the interrupt that comes before its
        # orderly end. What fails in a notebook comes as a message and does not need its log.
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=50"]
        environment = {"IPYTHONDIR": self._profile}
        return KernelSpec(argv=command, display_name="Python 3", language="python", env=environment)
