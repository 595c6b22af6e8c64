"""Archives with more than tensors and their operators are refused before PyTorch reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import pytest

from segmnv2.errors import WeightsError
from segmnv2.export.torch_file import check_archive

GRAPH = "archive/models/model.json"


TREE = (
    '[1, {"type": "builtins.tuple", "context": "null", "children_spec": [{"type": null, "context": null, '
    '"children_spec": []}, {"type": "builtins.dict", "context": "[]", "children_spec": []}]}]'
)
SIZE = "FloorDiv(Add(Symbol('s62', positive=True, integer=True), Integer(-1)), Integer(2))"


@pytest.fixture
def graph() -> dict[str, Any]:
    """Return a small version of the graph that PyTorch writes."""
    node = {"target": "torch.ops.aten.__or__.Tensor", "name": "__or__", "metadata": {"stack_trace": '"a"'}}
    values = {"sym_size_int_1": {"as_expr": {"expr_str": SIZE, "hint": {"as_int": 4}}}}
    return {
        "graph_module": {
            "graph": {"nodes": [node], "sym_int_values": values},
            "module_call_graph": [{"fqn": "network.blocks.0@1", "signature": {"in_spec": TREE}}],
        },
        "range_constraints": {"s62": {"min_val": 2, "max_val": None}},
        "torch_version": "2.14.1+cu130",
        "guards_code": [],
    }


@pytest.fixture
def records(graph: dict[str, Any]) -> dict[str, bytes]:
    return {GRAPH: json.dumps(graph).encode(), "archive/.data/version": b"6", "archive/data/weights/weight_0": b"x"}


def save(records: dict[str, bytes], path: Path, compression: int = ZIP_STORED) -> Path:
    with ZipFile(path, "w", compression) as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    return path


def test_an_archive_of_operators_is_accepted(records, tmp_path):
    check_archive(save(records, tmp_path / "small.pt2"))


def test_infinite_padding_of_a_pooling_is_accepted(graph, records, tmp_path):
    node = graph["graph_module"]["graph"]["nodes"][0]
    node["inputs"] = [{"arg": {"as_float": "-Infinity"}}, {"arg": {"as_floats": ["Infinity", "NaN"]}}]
    check_archive(save({**records, GRAPH: json.dumps(graph).encode()}, tmp_path / "pooled.pt2"))


def _formula(graph: dict[str, Any], text: str) -> None:
    for value in graph["graph_module"]["graph"]["sym_int_values"].values():
        value["as_expr"]["expr_str"] = text


def _target(graph: dict[str, Any], text: str) -> None:
    graph["graph_module"]["graph"]["nodes"][0]["target"] = text


def _name(graph: dict[str, Any], text: str) -> None:
    graph["graph_module"]["graph"]["nodes"][0]["name"] = text


def _tree(graph: dict[str, Any], text: str) -> None:
    graph["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = text


def _guard(graph: dict[str, Any], text: str) -> None:
    graph["guards_code"] = [text]


def _symbol(graph: dict[str, Any], text: str) -> None:
    graph["range_constraints"][text] = {"min_val": 0, "max_val": 1}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_formula, "__import__('pathlib').Path('sprung').touch()"),
        (_formula, "9**9**9**9"),
        (_formula, "Pow(Integer(9), Pow(Integer(9), Integer(9)))"),
        (_target, "torch.os.system"),
        (_target, "torch.ops.aten.save.default"),
        (_target, "torch.ops.aten.from_file.default"),
        (_target, "_operator.methodcaller"),
        (_name, "a = print(1); a"),
        (_name, "torch.load"),
        (_tree, '[1, {"type": "collections.defaultdict", "context": {"default_factory_module": "antigravity"}}]'),
        (_guard, "__import__('pathlib').Path('sprung').touch()"),
        (_symbol, "u999999999999"),
    ],
)
def test_texts_that_run_as_code_are_refused(graph, records, tmp_path, change: Callable[..., None], text: str):
    change(graph, text)
    path = save({**records, GRAPH: json.dumps(graph).encode()}, tmp_path / "trap.pt2")
    with pytest.raises(WeightsError, match=r"trap\.pt2: contains the text .* do not trust this file"):
        check_archive(path)


@pytest.mark.parametrize(
    "name",
    [
        "archive/data/constants/opaque_obj_0",  # unpickled
        "archive/data/constants/custom_obj_0",
        "archive/data/aotinductor/model/wrapper.so",
        "archive/models/other.json",
    ],
)
def test_records_that_run_as_code_are_refused(records, tmp_path, name):
    path = save({**records, name: b"x"}, tmp_path / "trap.pt2")
    with pytest.raises(WeightsError, match=r"trap\.pt2: contains the record"):
        check_archive(path)


def test_compressed_records_are_refused(records, tmp_path):
    path = save(records, tmp_path / "bomb.pt2", ZIP_DEFLATED)
    with pytest.raises(WeightsError, match=r"bomb\.pt2: contains compressed records"):
        check_archive(path)
