"""Small image models in ONNX format, made by the tests that use them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper

Shape = Sequence[int | str]


def model(
    path: Path,
    *,
    pixels: Shape = (1, 1, 64, 64),
    pool: int = 8,
    kind: int = TensorProto.FLOAT,
    outputs: int = 1,
    head: Sequence[onnx.NodeProto] = (),
) -> Path:
    """
    Write a model that gives the mean shade of each square of *pool* pixels, as one vector.

    *head* are nodes from `flat` to `vector0`, instead of a plain copy.
    """
    nodes = [
        helper.make_node("AveragePool", ["picture"], ["small"], kernel_shape=[pool] * 2, strides=[pool] * 2),
        helper.make_node("Flatten", ["small"], ["flat"]),
        *(head or [helper.make_node("Identity", ["flat"], ["vector0"])]),
        *(helper.make_node("Identity", ["flat"], [f"vector{number}"]) for number in range(1, outputs)),
    ]
    graph = helper.make_graph(
        nodes,
        "shades",
        [helper.make_tensor_value_info("picture", kind, pixels)],
        [helper.make_tensor_value_info(f"vector{n}", kind, [None, None]) for n in range(outputs)],
    )
    made = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    path.write_bytes(made.SerializeToString())
    return path
