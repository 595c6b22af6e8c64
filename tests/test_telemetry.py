"""No dependency reports anything, however it is imported."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from segmnv2.telemetry import OPENVINO, SWITCHES, forbid_telemetry, is_offline

USE_ALL = """
import segmnv2
import onnx, openvino, torch
from segmnv2.engines.int8 import quantize_graph
from segmnv2.engines.onnx_runtime import open_session

shape = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [shape], [result])
opset = [onnx.helper.make_opsetid("", 18)]
open_session(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString(), 1)
example = torch.zeros(1, 1, 4, 4)
model = openvino.convert_model(torch.nn.Conv2d(1, 1, 1), example_input=example, input=[(1, 1, 4, 4)])
quantize_graph(model, [example.numpy()])
import albumentations, huggingface_hub, lightning, timm
assert huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY
"""


class Proxy(threading.Thread):
    """Stands between a process and all networks, and keeps what the process needs to reach."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.wanted: list[bytes] = []

    def environment(self) -> dict[str, str]:
        url = f"http://127.0.0.1:{self.server.getsockname()[1]}"
        names = ("http_proxy", "https_proxy", "all_proxy")
        return {"no_proxy": "", "NO_PROXY": ""} | {name: url for each in names for name in (each, each.upper())}

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            with connection:
                self.wanted.append(connection.recv(100))


@pytest.mark.slow
def test_nothing_is_sent_and_nothing_is_written_to_the_home_folder(tmp_path: Path) -> None:
    proxy = Proxy()
    proxy.start()
    keep = {k: v for k, v in os.environ.items() if k not in ("CI", "TF_BUILD", "JENKINS_URL", *SWITCHES)}
    home = tmp_path / "home"
    home.mkdir()
    places = {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), "MPLCONFIGDIR": str(tmp_path / "fonts")}
    done = subprocess.run(
        [sys.executable, "-c", USE_ALL], env=keep | proxy.environment() | places, capture_output=True, text=True
    )
    proxy.server.close()
    assert done.returncode == 0, done.stderr
    assert proxy.wanted == []
    assert [str(path) for path in home.rglob("*") if path.is_file()] == []


def test_what_was_imported_before_sends_nothing_either(monkeypatch: pytest.MonkeyPatch) -> None:
    class Telemetry:
        def init(self, *_: Any, **__: Any) -> None:
            raise AssertionError("a client id would be written")

        def send_event(self, *_: Any, **__: Any) -> None:
            raise AssertionError("a message would be sent")

        start_session = end_session = send_error = send_stack_trace = send_event

    module = ModuleType(OPENVINO)
    module.Telemetry = Telemetry  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, OPENVINO, module)
    forbid_telemetry()
    telemetry = Telemetry()
    telemetry.init("app", tid="x")
    for name in ("start_session", "send_event", "send_error", "send_stack_trace", "end_session"):
        getattr(telemetry, name)("ovc", "version")


def test_child_processes_inherit_the_switches() -> None:
    code = f"import os; assert all(os.environ[name] == '1' for name in {list(SWITCHES)})"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_own_switch_turns_the_hubs_client_off_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMNV2_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert is_offline()
    forbid_telemetry()
    assert os.environ["HF_HUB_OFFLINE"] == "1", "timm and smp download through the Hub's client"
