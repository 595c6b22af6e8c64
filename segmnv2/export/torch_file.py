"""torch.export's ``.pt2`` files: the model with pre- and post-processing as one PyTorch program.

``torch.export.load`` trusts its file. It evaluates formulas of sizes, guards and node names as Python. It unpickles
constants, imports modules that are named in trees of arguments, and loads compiled code. So an archive is checked
before PyTorch reads it: it may contain only kinds of records and texts that exports of this library contain.
"""

from __future__ import annotations

import json
import re
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import numpy as np
import torch
from jaxtyping import UInt8

from segmnv2.backbones.timm import never_unpickling
from segmnv2.engines.backend import Calibration
from segmnv2.engines.pytorch import DTYPES, InferenceNetwork, convert_layers
from segmnv2.errors import WeightsError
from segmnv2.export.deployable import EXAMPLE_SIZE, CellLabels, Deployable, RawLogits, build_preparation
from segmnv2.export.export_metadata import ExportMetadata
from segmnv2.export.formats import OpenedExport, readable
from segmnv2.files.documents import dump_json
from segmnv2.models.segmenter import Segmenter
from segmnv2.telemetry import quiet

GRAPH = "models/model.json"

RECORD = re.compile(
    r"models/model\.json|extra/segmnv2\.json|archive_format|archive_version|byteorder|\.data/(version|serialization_id)"
    r"|data/(sample_inputs|weights|constants)/model\.pt|data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)"
)
"""Names of records in an archive; the ``.pt`` files are read without unpickling."""

WORD = re.compile(r"(?!.*\d{7})[\w.+@]*", re.ASCII)
"""Keys, and texts without a rule. Numbers in names of symbols are bounded, because PyTorch counts up to them."""

FORMULA = re.compile(
    r"(?:Symbol\('[a-z]+\d{1,6}'"
    r"|(?:Add|Mul|Integer|Float|Rational|Max|Min|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|CeilToInt|FloorToInt|TruncToInt"
    r"|RoundToInt|TruncToFloat|ToFloat|IntTrueDiv|FloatTrueDiv|Identity|Where|Equality|Unequality|GreaterThan|LessThan"
    r"|StrictGreaterThan|StrictLessThan|Eq|Ne|Ge|Le|Gt|Lt|And|Or|Not)(?=\()"
    r"|(?:integer|positive|negative|nonnegative|real|finite)=(?:True|False)"
    r"|[a-z]\d{1,6}|\d{1,19}|true|false|[-+/%(), ]|\*(?!\*))*+",
    re.ASCII,
)
"""Formulas of sizes, as sympy writes them, without powers, because their values are unbounded."""

RULES = {
    "target": re.compile(
        r"torch\.ops\.aten\.(?!from_file\.|save\.)\w+\.[a-zA-Z]\w*|torch\.sym_[a-z]+"
        r"|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|eq|ne|le|lt|ge|gt|and_|or_)",
        re.ASCII,
    ),
    "name": re.compile(r"\w*", re.ASCII),
    "as_name": re.compile(r"\w*", re.ASCII),
    "expr_str": FORMULA,
    **dict.fromkeys(("as_float", "as_floats"), re.compile("-?Infinity|NaN")),  # padding values of poolings
    **dict.fromkeys(
        ("in_spec", "out_spec"),
        re.compile(r'(?:"(?:type|context|children_spec|builtins\.(?:tuple|list|dict)|null|\[\])"|null|[][{}:, 1])*+'),
    ),
    **dict.fromkeys(("as_string", "stack_trace", "nn_module_stack", "torch_fn", "from_node"), re.compile(r"(?s:.*)")),
    **dict.fromkeys(("guards_code", "as_operator", "source_fn_stack"), re.compile("")),
}
"""Key -> pattern of its text. The row before the last allows any text, because PyTorch never evaluates these."""


def check_archive(path: Path) -> None:
    """Check that PyTorch will run only tensor operators when it loads and runs an archive.

    Raises:
        WeightsError: the archive contains something that no export of this library contains.
        Exception: the file is no archive; the error can have any class.
    """
    reader = torch._C.PyTorchFileReader(str(path))
    with ZipFile(path) as archive:  # PyTorch reads archives of older versions with this class
        entries = archive.infolist()
    for name in (*reader.get_all_records(), *(entry.filename.partition("/")[2] for entry in entries)):
        if not RECORD.fullmatch(name):
            raise _unsafe(path, f"the record {name!a:.80}")
    if any(entry.compress_type != ZIP_STORED for entry in entries):
        raise _unsafe(path, "compressed records")
    _check_texts(json.loads(reader.get_record(GRAPH)), "", path)


def _check_texts(value: Any, key: str, path: Path) -> None:
    if isinstance(value, dict):
        for name, each in value.items():
            _check_texts(name, "", path)
            _check_texts(each, name, path)
    elif isinstance(value, list):
        for each in value:
            _check_texts(each, key, path)
    elif isinstance(value, str) and not RULES.get(key, WORD).fullmatch(value):
        raise _unsafe(path, f"the text {value!a:.80} ({key or 'a key'} in {GRAPH})")


def _unsafe(path: Path, what: str) -> WeightsError:
    return WeightsError(f"{path}: contains {what}, which no export of segmnv2 contains; do not trust this file")


ENTRY = "segmnv2.json"  # name of the extra file with the metadata


def write_torch(model: Segmenter, path: Path, metadata: ExportMetadata, _calibration: Calibration = None) -> None:
    """Write a model as a program of torch.export; in bfloat16 the layers also compute in bfloat16."""
    network = convert_layers(InferenceNetwork(model), DTYPES[metadata.precision])
    ending = RawLogits() if metadata.output == "logits" else CellLabels(model.logits_stride)
    whole = Deployable(build_preparation(model), network, ending)
    height, width = metadata.size or EXAMPLE_SIZE
    # PyTorch would reject named axes, because tensor sizes of the ending are known only at run time.
    any_size = {1: torch.export.Dim.DYNAMIC(min=2), 2: torch.export.Dim.DYNAMIC(min=2)}
    example = torch.zeros(1, height, width, 3, dtype=torch.uint8)
    with quiet():
        program = torch.export.export(
            whole,
            (example,),
            dynamic_shapes=None if metadata.size else (any_size,),
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )
        content = BytesIO()  # torch's own writer ends the process if the disk is full
        torch.export.save(program, content, extra_files={ENTRY: dump_json(metadata.to_dict())})
    path.write_bytes(content.getbuffer())


def open_torch(path: Path, _threads: int = 1) -> OpenedExport:
    """Open a program in PyTorch; it computes with PyTorch's number of threads.

    Raises:
        WeightsError: the file is missing, damaged, unsafe, or from another program.
    """
    extra = {ENTRY: ""}
    with readable(path, "cannot be read as a program of torch.export"), quiet(), never_unpickling():
        check_archive(path)
        call = torch.export.load(path, extra_files=extra).module()

    def run(batch: UInt8[np.ndarray, "1 h w 3"]) -> np.ndarray[Any, Any]:
        with torch.inference_mode():
            found: np.ndarray[Any, Any] = call(torch.from_numpy(batch)).numpy()
            return found

    metadata = ExportMetadata.from_json(extra[ENTRY] or "{}", str(path))
    bfloat16 = any(each.dtype == torch.bfloat16 for each in call.parameters())
    return OpenedExport(path, metadata, run, lambda: ("bfloat16",) if bfloat16 else ("float32",))
