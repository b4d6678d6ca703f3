"""Every fault that `apr falsify` plants."""

from __future__ import annotations

from apr.stepzero.faults.checkpoint import CHECKPOINT_FAULTS
from apr.stepzero.faults.config import CONFIG_FAULTS
from apr.stepzero.faults.container import CONTAINER_FAULTS
from apr.stepzero.faults.contents import CONTENT_FAULTS
from apr.stepzero.faults.documents import DOCUMENT_FAULTS
from apr.stepzero.faults.fault import Fault
from apr.stepzero.faults.forward import FORWARD_FAULTS
from apr.stepzero.faults.loader import LOADER_FAULTS
from apr.stepzero.faults.optimizer import OPTIMIZER_FAULTS
from apr.stepzero.faults.order import ORDER_FAULTS
from apr.stepzero.faults.shards import SHARD_FAULTS
from apr.stepzero.faults.source import SOURCE_FAULTS
from apr.stepzero.faults.subset import SUBSET_FAULTS
from apr.stepzero.faults.tokenizer import TOKENIZER_FAULTS

FAULTS: tuple[Fault, ...] = (
    *SOURCE_FAULTS,
    *CONTAINER_FAULTS,
    *CONTENT_FAULTS,
    *CONFIG_FAULTS,
    *TOKENIZER_FAULTS,
    *SHARD_FAULTS,
    *LOADER_FAULTS,
    *FORWARD_FAULTS,
    *OPTIMIZER_FAULTS,
    *ORDER_FAULTS,
    *DOCUMENT_FAULTS,
    *CHECKPOINT_FAULTS,
    *SUBSET_FAULTS,
)
