"""Every fault that a Hugging Face folder can carry to `apr import`."""

from __future__ import annotations

from apr.stepzero.faults.fault import Fault
from apr.stepzero.faults.source_config import CONFIG_FAULTS
from apr.stepzero.faults.source_content import CONTENT_FAULTS
from apr.stepzero.faults.source_files import FILE_FAULTS
from apr.stepzero.faults.source_tokenizer import TOKENIZER_FAULTS
from apr.stepzero.faults.source_weights import TENSOR_FAULTS

SOURCE_FAULTS: tuple[Fault, ...] = (
    *FILE_FAULTS,
    *TENSOR_FAULTS,
    *CONFIG_FAULTS,
    *TOKENIZER_FAULTS,
    *CONTENT_FAULTS,
)
