"""What every test stands on: no network, shapes checked, and the way to the real data."""

from __future__ import annotations

import gc
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before torch is imported anywhere. The hub client otherwise asks the network even for files that it has.
os.environ["HF_HUB_OFFLINE"] = "1"
_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // _workers)))

TYPECHECKED = (
    "segmnv2.nn",
    "segmnv2.backbones",
    "segmnv2.heads",
    "segmnv2.models",
    "segmnv2.conversion",
    "segmnv2.metrics",
    "segmnv2.inference",
    "segmnv2.media",
    "segmnv2.engines.backend",
    "segmnv2.engines.onnx_runtime",
    "segmnv2.engines.openvino",
    "segmnv2.engines.pytorch",
)

if os.environ.get("SEGMNV2_TYPECHECK", "1") != "0":
    from jaxtyping import install_import_hook

    install_import_hook(TYPECHECKED, "typechecking.typechecked")

for _number in (signal.SIGINT, *(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))):
    # In the background of a shell and under `nohup` these are ignored, and so they would be in tests that send them.
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real data and weights: SEGMNV2_SHARED, or `shared` beside the repository."""
    folder = Path(os.environ.get("SEGMNV2_SHARED", REPOSITORY.parent / "shared"))
    if (folder / "weights").is_dir() and (folder / "data").is_dir():
        return folder
    message = f"{folder}: no real data and weights here; set SEGMNV2_SHARED to the folder that holds them"
    if os.environ.get("SEGMNV2_REQUIRE_SHARED") == "1":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def common(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that all workers of a run share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "common"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _conversions(common: Path) -> Iterator[None]:
    from tests.conversions import shared_conversions

    with shared_conversions(common):
        yield


def pytest_collection_finish() -> None:
    """Let garbage collection leave out the libraries' objects, millions of which are never freed."""
    gc.freeze()


@pytest.hookimpl(tryfirst=True)  # before `-m` leaves tests out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests that use real data, and those of the list of slow ones.

    Raises:
        pytest.UsageError: an entry of the list is the id of no test.
    """
    lines = (REPOSITORY / "tests/slow_tests.txt").read_text(encoding="utf-8").splitlines()
    listed = [line for line in lines if line and not line.startswith("#")]
    slow = {line: re.compile(re.escape(line).replace(r"\*", ".*") + r"(?:\[.*)?") for line in listed}
    stale, files = set(listed), set()
    for item in items:
        files.add(item.nodeid.partition("::")[0])
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.real)
        for line, pattern in slow.items():
            if pattern.fullmatch(item.nodeid):
                item.add_marker(pytest.mark.slow)
                stale.discard(line)
    missing = sorted(line for line in stale if line.partition("::")[0] in files)
    if missing and not any("::" in argument for argument in config.args):
        raise pytest.UsageError(f"tests/slow_tests.txt: {', '.join(missing)} is no test; name those that there are")


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the checks of annotations, which only tests have: hostile values reach the code as they do in use."""
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
