"""Arguments of TorchScript's operators: as torch takes them, and as a program has them."""

from __future__ import annotations

from typing import Any

import torch  # noqa: TID253 - imported by the worker alone

from niudao.formats.pytorch.program.script_values import Free, Refuse, Scalar, Tensor, at

CODES = {
    0: torch.uint8, 1: torch.int8, 2: torch.int16, 3: torch.int32, 4: torch.int64, 5: torch.float16, 6: torch.float32, 7: torch.float64,
    9: torch.complex64, 10: torch.complex128, 11: torch.bool, 15: torch.bfloat16, 23: torch.float8_e5m2, 24: torch.float8_e4m3fn,
}  # fmt: skip
"""c10::ScalarType."""
_FORMATS = {0: torch.contiguous_format, 1: torch.preserve_format, 2: torch.channels_last, 3: torch.channels_last_3d}


def dtype_name(dtype: Any) -> str:
    """numpy's name of a type of torch's."""
    return str(dtype).removeprefix("torch.")


def code_of(dtype: Any) -> int:
    """c10::ScalarType of a type of torch's."""
    return next(code for code, held in CODES.items() if held == dtype)


def tensors(args: Any) -> list[Tensor]:
    """The tensors among arguments, lists looked through."""
    if isinstance(args, Tensor):
        return [args]
    return [t for a in args for t in tensors(a)] if isinstance(args, (list, tuple)) else []


def content(i: int, argument: Any, value: Any) -> Any:
    """An argument as torch takes it: at one choice of the free sizes, or the real content (-1)."""
    kind = str(argument.real_type)
    if isinstance(value, Tensor):
        return value.real if i < 0 else value.probes[i]
    if isinstance(value, Scalar):
        number = at(value.number, i)
        return torch.tensor(number, dtype=value.dtype) if "Tensor" in kind else number
    if isinstance(value, Free):
        return value.values[i]
    if isinstance(value, (list, tuple)):
        return [content(i, argument, v) for v in value]
    if "Device" in kind or argument.name == "device":
        return torch.device("cpu" if i < 0 else "meta")
    if argument.name == "dtype" or "ScalarType" in kind:
        return CODES.get(value, value) if isinstance(value, int) else value
    if argument.name == "memory_format" or "MemoryFormat" in kind:
        return _FORMATS.get(value, value) if isinstance(value, int) else value
    if argument.name in ("layout", "pin_memory"):
        return None
    return value


def noted(argument: Any, value: Any) -> Any:
    """An argument as a program has it."""
    kind = str(argument.real_type)
    if isinstance(value, int) and not isinstance(value, bool) and (argument.name == "dtype" or "ScalarType" in kind):
        if value not in CODES:
            raise Refuse("complex or quantised numbers have no place here")
        return CODES[value]
    if argument.name in ("memory_format", "layout", "device", "pin_memory") or "Device" in kind or "Generator" in kind:
        return None
    return value
