"""What lies in torch's files, described; nothing is unpickled and torch is not imported."""

from niudao.formats.pytorch.checkpoint.opening import Checkpoint, describe, open_checkpoint
from niudao.formats.pytorch.checkpoint.script import script_state
from niudao.formats.pytorch.checkpoint.tensors import Storage, StoredTensor
from niudao.formats.pytorch.checkpoint.vet import vet

__all__ = ["Checkpoint", "Storage", "StoredTensor", "describe", "open_checkpoint", "script_state", "vet"]
