"""A model as an `nn.Module`, and a trained one as a model again."""

from __future__ import annotations

from niudao.formats.pytorch.modules.network import Network as Network
from niudao.formats.pytorch.modules.network import from_module as from_module
from niudao.formats.pytorch.modules.network import to_module as to_module
