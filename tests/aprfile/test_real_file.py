"""The container on a real checkpoint: what lies in the file is what its source holds."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from apr.aprfile.reader import open_apr
from apr.base.errors import AprError
from apr.convert.source import open_source


@pytest.mark.live
def test_every_tensor_of_a_real_file_is_its_sources(qwen_gguf: Path, qwen_apr: Path) -> None:
    source = open_source(str(qwen_gguf), read_tokenizer=False)
    with open_apr(qwen_apr) as file:
        owned = {name for name in file.entries if name not in file.aliases}
        assert owned == set(source.tensors)
        for name, tensor in source.tensors.items():
            np.testing.assert_array_equal(file.as_f32(name), tensor.load(), err_msg=name)


@pytest.mark.live
def test_a_flipped_bit_of_a_real_file_is_refused(qwen_apr: Path, tmp_path: Path) -> None:
    path = tmp_path / "flipped.apr"
    shutil.copy(qwen_apr, path)
    at = random.Random(7).randrange(path.stat().st_size)
    with path.open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes([byte ^ 1]))
    with pytest.raises(AprError):
        open_apr(path)
    path.unlink()
