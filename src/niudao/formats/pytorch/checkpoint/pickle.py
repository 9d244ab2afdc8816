"""The pickle machine, protocols 0 to 5, building descriptions: a name is looked up in a list, never in Python, and nothing is called.

Reference: `pickletools` of CPython; PEP 307, 3154 and 574.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from niudao.errors import LimitError, NiudaoError, ReadError, Where
from niudao.formats.pytorch.checkpoint import allowed, filling
from niudao.formats.pytorch.checkpoint.described import Storage


@dataclass(frozen=True)
class Limits:
    """What one pickle may take; each step is at least a byte of it.

    Attributes:
        steps: Opcodes.
        objects: Containers and instances; a tensor counts as about ten, for all it is made of.
        line: Bytes of a text line (names and numbers in protocol 0).
        digits: Bytes of a whole number.
    """

    steps: int = 2_000_000
    objects: int = 400_000
    line: int = 4096
    digits: int = 256


LIMITS = Limits()
_U16, _I32, _U32, _U64, _F64 = (struct.Struct(f).unpack_from for f in ("<H", "<i", "<I", "<Q", ">d"))


class _End(Exception):
    """The pickle ends before its end."""


def read(
    data: bytes, where: Where, *, start: int = 0, storages: dict[str, Storage] | None = None, limits: Limits = LIMITS
) -> tuple[Any, int]:
    """Describe one pickle.

    Args:
        data: Bytes that hold it.
        where: The file, for messages.
        start: Where it begins in them.
        storages: Filled with the storages outside itself that it speaks of, as torch's do; None where it may not.
        limits: What it may take.

    Returns:
        Its value, and where the bytes after it begin.

    Raises:
        ReadError: It is cut short or malformed, or asks for something that no checkpoint needs; its name is in the message.
        LimitError: It takes more than the limits.
    """
    try:
        return _run(data, start, storages, limits)
    except NiudaoError as e:
        raise type(e)(e.message, where=where, expected=e.expected, got=e.got, next=e.next) from e
    except (_End, IndexError, struct.error) as e:
        raise ReadError("the pickle is cut short or damaged.", where=where) from e
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, UnicodeError) as e:
        raise ReadError(f"the pickle is damaged: {str(e)[:80]!r}.", where=where) from e
    except (MemoryError, RecursionError) as e:
        raise LimitError("the pickle takes more memory than there is.", where=where) from e


def _run(data: bytes, at: int, storages: dict[str, Storage] | None, limits: Limits) -> tuple[Any, int]:
    """The loop. A chain of comparisons in the order of frequency is the fastest that plain Python has."""
    size = len(data)
    stack: list[Any] = []
    marks: list[list[Any]] = []
    memo: dict[int, Any] = {}
    objects = 0
    begin = at
    ceiling = at + limits.steps
    steps = at
    push = stack.append
    while True:
        if at >= size:
            raise _End
        op = data[at]
        at += 1
        steps += 1
        if steps > ceiling or objects > limits.objects:
            raise LimitError("the pickle has too many parts.", expected=f"at most {limits.steps:,} steps and {limits.objects:,} objects")
        if op == 0x71:  # BINPUT
            memo[data[at]] = stack[-1]
            at += 1
        elif op == 0x68:  # BINGET
            push(memo[data[at]])
            at += 1
        elif op == 0x4B:  # BININT1
            push(data[at])
            at += 1
        elif op == 0x72:  # LONG_BINPUT
            memo[_U32(data, at)[0]] = stack[-1]
            at += 4
        elif op == 0x6A:  # LONG_BINGET
            push(memo[_U32(data, at)[0]])
            at += 4
        elif op == 0x94:  # MEMOIZE
            memo[len(memo)] = stack[-1]
        elif op == 0x58:  # BINUNICODE
            at, text = _cut(data, at + 4, _U32(data, at)[0])
            push(str(text, "utf-8", "surrogatepass"))
        elif op == 0x8C:  # SHORT_BINUNICODE
            at, text = _cut(data, at + 1, data[at])
            push(str(text, "utf-8", "surrogatepass"))
        elif op == 0x28:  # MARK
            marks.append(stack)
            objects += 1
            stack = []
            push = stack.append
        elif op == 0x74:  # TUPLE
            made, stack = tuple(stack), marks.pop()
            push = stack.append
            push(made)
        elif op == 0x85:  # TUPLE1
            stack[-1] = (stack[-1],)
            objects += 1
        elif op == 0x86:  # TUPLE2
            last = stack.pop()
            stack[-1] = (stack[-1], last)
            objects += 1
        elif op == 0x87:  # TUPLE3
            last, middle = stack.pop(), stack.pop()
            stack[-1] = (stack[-1], middle, last)
            objects += 1
        elif op == 0x29:  # EMPTY_TUPLE
            push(())
        elif op == 0x51:  # BINPERSID
            stack[-1] = filling.persistent(stack[-1], storages)
            objects += 1
        elif op == 0x52:  # REDUCE
            args = stack.pop()
            stack[-1] = filling.reduce(stack[-1], args)
            objects += 3
        elif op == 0x4D:  # BININT2
            push(_U16(data, at)[0])
            at += 2
        elif op == 0x4A:  # BININT
            push(_I32(data, at)[0])
            at += 4
        elif op == 0x89:  # NEWFALSE
            push(False)
        elif op == 0x88:  # NEWTRUE
            push(True)
        elif op == 0x4E:  # NONE
            push(None)
        elif op == 0x63:  # GLOBAL
            at, module = _name(data, at, limits)
            at, name = _name(data, at, limits)
            push(allowed.find(module, name))
        elif op == 0x93:  # STACK_GLOBAL
            name, module = stack.pop(), stack.pop()
            if not isinstance(name, str) or not isinstance(module, str):
                raise ReadError("the pickle names a global by something that is no text.")
            push(allowed.find(module, name))
            objects += 1
        elif op == 0x75:  # SETITEMS
            items, stack = stack, marks.pop()
            push = stack.append
            filling.set_items(stack[-1], items)
            objects += len(items) >> 2
        elif op == 0x73:  # SETITEM
            value, key = stack.pop(), stack.pop()
            filling.set_items(stack[-1], [key, value])
        elif op == 0x65:  # APPENDS
            items, stack = stack, marks.pop()
            push = stack.append
            filling.append(stack[-1], items)
        elif op == 0x61:  # APPEND
            value = stack.pop()
            filling.append(stack[-1], [value])
        elif op == 0x62:  # BUILD
            state = stack.pop()
            filling.build(stack[-1], state)
        elif op == 0x7D:  # EMPTY_DICT
            push({})
            objects += 1
        elif op == 0x5D:  # EMPTY_LIST
            push([])
            objects += 1
        elif op == 0x81:  # NEWOBJ
            args = stack.pop()
            stack[-1] = allowed.new(stack[-1], filling.arguments(args))
            objects += 1
        elif op == 0x47:  # BINFLOAT
            push(_F64(data, at)[0])
            at += 8
        elif op == 0x8A:  # LONG1
            at, raw = _cut(data, at + 1, data[at])
            push(int.from_bytes(raw, "little", signed=True))
        elif op == 0x2E:  # STOP
            if marks or len(stack) != 1:
                raise ReadError("the pickle ends with something left over.")
            return stack[0], at
        elif op == 0x95:  # FRAME
            if _U64(data, at)[0] > size - at - 8:
                raise _End
            at += 8
        elif op == 0x80:  # PROTO
            if data[at] > 5 or at != begin + 1:
                raise ReadError("the pickle has a protocol that does not exist.", expected="0 to 5", got=str(data[at]))
            at += 1
        else:
            at, stack, made_objects = _rare(op, data, at, stack, marks, memo, storages, limits)
            push = stack.append
            objects += made_objects


def _rare(
    op: int,
    data: bytes,
    at: int,
    stack: list[Any],
    marks: list[list[Any]],
    memo: dict[int, Any],
    storages: dict[str, Storage] | None,
    limits: Limits,
) -> tuple[int, list[Any], int]:
    """Opcodes of old protocols, and those that checkpoints seldom hold: position, stack and objects made."""
    if op == 0x55:  # SHORT_BINSTRING
        at, raw = _cut(data, at + 1, data[at])
        stack.append(_old_text(raw))
    elif op == 0x54:  # BINSTRING
        at, raw = _cut(data, at + 4, _U32(data, at)[0])
        stack.append(_old_text(raw))
    elif op == 0x43:  # SHORT_BINBYTES
        at, raw = _cut(data, at + 1, data[at])
        stack.append(raw)
    elif op == 0x42:  # BINBYTES
        at, raw = _cut(data, at + 4, _U32(data, at)[0])
        stack.append(raw)
    elif op in (0x8E, 0x96):  # BINBYTES8, BYTEARRAY8
        at, raw = _cut(data, at + 8, _U64(data, at)[0])
        stack.append(raw)
    elif op == 0x8D:  # BINUNICODE8
        at, raw = _cut(data, at + 8, _U64(data, at)[0])
        stack.append(str(raw, "utf-8", "surrogatepass"))
    elif op == 0x8B:  # LONG4
        length = _I32(data, at)[0]
        if length > limits.digits:
            raise LimitError("the pickle holds a whole number of too many digits.", expected=f"at most {limits.digits} bytes")
        at, raw = _cut(data, at + 4, length)
        stack.append(int.from_bytes(raw, "little", signed=True))
    elif op in (0x49, 0x4C):  # INT, LONG
        at, text = _name(data, at, limits)
        if len(text) > limits.digits:
            raise LimitError("the pickle holds a whole number of too many digits.", expected=f"at most {limits.digits}")
        stack.append({"00": False, "01": True}.get(text) if op == 0x49 and text in ("00", "01") else int(text.removesuffix("L")))
    elif op == 0x46:  # FLOAT
        at, text = _name(data, at, limits)
        stack.append(float(text))
    elif op == 0x53:  # STRING
        at, raw = _line(data, at, limits)
        if len(raw) < 2 or raw[:1] != raw[-1:] or raw[:1] not in (b"'", b'"'):
            raise ReadError("the pickle holds a text without its quotes.")
        stack.append(_old_text(raw[1:-1].decode("unicode_escape").encode("latin-1", "replace")))
    elif op == 0x56:  # UNICODE
        at, raw = _line(data, at, limits)
        stack.append(raw.decode("raw_unicode_escape"))
    elif op == 0x70:  # PUT
        at, text = _name(data, at, limits)
        memo[int(text[:20])] = stack[-1]
    elif op == 0x67:  # GET
        at, text = _name(data, at, limits)
        stack.append(memo[int(text[:20])])
    elif op == 0x50:  # PERSID
        at, text = _name(data, at, limits)
        stack.append(filling.persistent(text, storages))
    elif op == 0x30:  # POP
        if stack:
            stack.pop()
        else:
            stack = marks.pop()
    elif op == 0x31:  # POP_MARK
        stack = marks.pop()
    elif op == 0x32:  # DUP
        stack.append(stack[-1])
    elif op in (0x6C, 0x64, 0x91):  # LIST, DICT, FROZENSET
        items, stack = stack, marks.pop()
        made: Any = {0x6C: list, 0x64: dict, 0x91: set}[op]()
        (filling.set_items if op == 0x64 else filling.append)(made, items)
        stack.append(frozenset(made) if op == 0x91 else made)
    elif op == 0x8F:  # EMPTY_SET
        stack.append(set())
        return at, stack, 4
    elif op == 0x90:  # ADDITEMS
        items, stack = stack, marks.pop()
        filling.append(stack[-1], items)
    elif op in (0x69, 0x6F):  # INST, OBJ: an old class, called
        if op == 0x69:
            at, module = _name(data, at, limits)
            at, name = _name(data, at, limits)
            items, stack = stack, marks.pop()
            kind = allowed.find(module, name)
        else:
            items, stack = stack, marks.pop()
            kind = items.pop(0)
        stack.append(filling.reduce(kind, tuple(items)))
    elif op == 0x92:  # NEWOBJ_EX
        options, args = stack.pop(), stack.pop()
        if not isinstance(options, dict):
            raise ReadError("the pickle makes an object in a way that pickles do not.")
        stack[-1] = allowed.new(stack[-1], filling.arguments(args))
    elif op in (0x82, 0x83, 0x84):
        raise ReadError("the pickle uses a registry of extensions, which torch does not have.")
    elif op in (0x97, 0x98):
        raise ReadError("the pickle speaks of buffers outside itself, which torch does not write.")
    else:
        raise ReadError("the pickle holds an instruction that does not exist.", got=f"0x{op:02x}")
    return at, stack, 1


def _cut(data: bytes, start: int, length: int) -> tuple[int, bytes]:
    end = start + length
    if length < 0 or end > len(data):
        raise _End
    return end, data[start:end]


def _line(data: bytes, at: int, limits: Limits) -> tuple[int, bytes]:
    end = data.find(b"\n", at, at + limits.line + 1)
    if end < 0:
        if len(data) - at > limits.line:
            raise LimitError("the pickle holds a line that is too long.", expected=f"at most {limits.line:,} bytes")
        raise _End
    return end + 1, data[at:end]


def _name(data: bytes, at: int, limits: Limits) -> tuple[int, str]:
    end, raw = _line(data, at, limits)
    return end, raw.rstrip(b"\r").decode("utf-8", "replace")


def _old_text(raw: bytes) -> str:
    """A text of Python 2, which is whatever bytes somebody had."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
