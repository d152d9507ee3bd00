"""Files that are written whole or not at all."""

import re
import resource

import pytest
import torch

from mfrlib.data.files import save_tensors


def test_a_full_disk_is_said_with_the_path_and_leaves_nothing(tmp_path):
    path, limits = tmp_path / "weights.safetensors", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match=rf"{re.escape(str(path))}: cannot be written \(.*\); free space or take"):
            save_tensors({"weight": torch.ones(100, 100)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())
    save_tensors({"weight": torch.ones(100, 100)}, path)
