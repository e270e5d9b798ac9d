"""Structured mutations of graphs. The result is valid protobuf."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from embedrt.bundle.graph_rules import OPERATORS
from fuzz.odd_values import NUMBERS, STRINGS, mutate_bytes
from tiny_bundle import varint

# Numbers of the fields that contain messages, in ModelProto and the messages of its graph.
TYPE: dict[int, Any] = {2: {1: {2: {1: {}}}}}
NODE: dict[int, Any] = {5: {5: {}}}
TENSOR: dict[int, Any] = {13: {}}
MODEL: dict[int, Any] = {8: {}, 7: {1: NODE, 5: TENSOR, 11: TYPE, 12: TYPE}}
ATTRIBUTES = """
    alpha allowzero approximate axes axis batch_dims block_size ends epsilon equation exclusive fmod
    is_causal keepdims kv_num_heads lower mode noop_with_empty_axes num_outputs perm
    q_num_heads qk_matmul_output_mode reduction reverse rotary_embedding_dim saturate scale softcap
    split starts to transA upper value
""".split()

Message = list[list[Any]]  # [field number, wire type, value]


def mutate_graph(content: bytes, random: Random) -> tuple[bytes, str]:
    """Mutate one node, field or tensor of a graph; return the result and a description."""
    try:
        model = _parse(content, MODEL)
        graph = next(value for _, _, value in model if isinstance(value, list) and len(value) > 2)
        nodes = [value for number, _, value in graph if number == 1 and isinstance(value, list)]
        node = random.choice(nodes)
    except (ValueError, IndexError, StopIteration):
        return mutate_bytes(content, random)
    names = [value for node in nodes for number, _, value in node if number in (1, 2)]
    places = [value for number, _, value in graph if number == 5 and isinstance(value, list)]
    places = [tensor for tensor in places if any(field[0] == 13 for field in tensor)]
    way = random.choice(
        ("field", "field", "operator", "attribute", "input", "output", "node", "order", "place")
    )
    if way == "field":
        _mutate_field(random.choice([model, *_messages(model, MODEL)]), random)
    elif way == "operator":
        _set(node, 4, random.choice(sorted(OPERATORS)).encode())
    elif way == "attribute":
        node.append([5, 2, _attribute(random)])
    elif way == "place" and places:
        _mutate_place(random.choice(places), random)
    elif way in ("input", "output"):
        node.append([1 if way == "input" else 2, 2, random.choice([*names, b"", b"new"])])
    elif way == "node":
        inputs = [[1, 2, name] for name in random.choices(names, k=random.randrange(6))]
        operator = random.choice(sorted(OPERATORS)).encode()
        made = [*inputs, [2, 2, b"new"], [4, 2, operator], [5, 2, _attribute(random)]]
        graph.insert(random.randrange(len(graph) + 1), [1, 2, made])
    else:
        random.shuffle(graph)
    return _encode(model), way


def _attribute(random: Random) -> Message:
    name = random.choice(ATTRIBUTES).encode()
    number = random.choice(NUMBERS) % (1 << 64)
    several = [[8, 0, random.choice(NUMBERS) % (1 << 64)] for _ in range(random.randrange(4))]
    value = random.choice(
        (
            [[3, 0, number], [20, 0, 2]],
            [*several, [20, 0, 7]],
            [[2, 5, random.randbytes(4)], [20, 0, 1]],
            [[4, 2, random.choice(STRINGS).encode(errors="replace")], [20, 0, 3]],
        )
    )
    return [[1, 2, name], *value]


def _mutate_field(message: Message, random: Random) -> None:
    if not message:
        return
    index = random.randrange(len(message))
    number, wire, value = message[index]
    way = random.choice(("value", "value", "value", "removed", "doubled", "number"))
    if way == "removed":
        del message[index]
    elif way == "doubled":
        message.append([number, wire, value])
    elif way == "number":
        message[index] = [random.randrange(1, 30), wire, value]
    elif wire == 0:
        message[index][2] = random.choice(NUMBERS) % (1 << 64)
    elif isinstance(value, bytes) and wire == 2:
        message[index][2] = mutate_bytes(value, random)[0]


def _mutate_place(tensor: Message, random: Random) -> None:
    """Mutate the location of a tensor's data in the weights file."""
    entry = random.choice([value for number, _, value in tensor if number == 13])
    numbers = (*NUMBERS, *range(0, 4096, 64))
    texts = (*STRINGS, *map(str, numbers), "weights.bin", "location", "offset", "length")
    way = random.choice(("text", "text", "text", "dimension", "doubled"))
    if way == "text" and isinstance(entry, list):
        _set(entry, random.choice((1, 2, 2, 2)), random.choice(texts).encode(errors="replace"))
    elif way == "dimension":
        tensor.insert(0, [1, 0, random.choice(NUMBERS) % (1 << 64)])
    else:
        tensor.append([13, 2, entry])


def _set(message: Message, number: int, value: bytes) -> None:
    message[:] = [field for field in message if field[0] != number]
    message.append([number, 2, value])


def _messages(message: Message, schema: dict[int, Any]) -> Iterator[Message]:
    for number, wire, value in message:
        if number in schema and wire == 2 and isinstance(value, list):
            yield value
            yield from _messages(value, schema[number])


def _parse(content: bytes, schema: dict[int, Any]) -> Message:
    fields: Message = []
    position = 0

    def number() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = content[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while position < len(content):
        key = number()
        wire = key & 7
        if wire == 0:
            fields.append([key >> 3, 0, number()])
            continue
        length = {1: 8, 2: -1, 5: 4}.get(wire)
        if length is None:
            raise ValueError(wire)
        length = number() if wire == 2 else length
        value: Any = content[position : position + length]
        position += length
        if wire == 2 and key >> 3 in schema:
            value = _parse(value, schema[key >> 3])
        fields.append([key >> 3, wire, value])
    return fields


def _encode(message: Message) -> bytes:
    encoded = b""
    for number, wire, value in message:
        encoded += varint(number << 3 | wire)
        if wire == 0:
            encoded += varint(value)
            continue
        content = _encode(value) if isinstance(value, list) else value
        encoded += varint(len(content)) + content if wire == 2 else content
    return encoded
