"""Protobuf messages, read and written by a schema that is a value: the ground on which several file formats stand.

    schema.py     .proto text -> Schema: messages, fields, enums
    scalars.py    what each scalar type means: wire form, dtype, range
    message.py    Message, and numbers that are not decoded (Span) or not yet made (Lazy)
    binary.py     bytes -> Message              encode.py   Message -> bytes, streaming
    text.py       text format -> Message        print.py    Message -> text format
    tokens.py     the words of the text format, each with its line and column

Reading never allocates by a size that a file declares before checking it against what the file holds.
"""
