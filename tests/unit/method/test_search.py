"""Search against brute force in float64: faiss as it is installed, and PyTorch as it would run on a GPU."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from reconpatch.errors import ReconpatchError
from reconpatch.method import search
from reconpatch.method.search import FaissSearch, TorchSearch, choose_engine

SEARCHES = {
    "faiss": FaissSearch,
    "PyTorch, one block": lambda bank: TorchSearch(bank, "cpu"),
    "PyTorch, blocks of 7 rows": lambda bank: TorchSearch(bank, "cpu", pairs=7 * 40),
}


@pytest.mark.parametrize("kind", SEARCHES)
@pytest.mark.parametrize("offset", [0, 100])
def test_search_finds_euclidean_neighbours(kind, offset, rng) -> None:
    bank, queries = (np.float32(offset) + rng.standard_normal((n, 9)).astype(np.float32) for n in (60, 40))
    distances, rows = SEARCHES[kind](bank)(queries, 3)
    exact = np.linalg.norm(queries[:, None].astype(np.float64) - bank, axis=2)
    # faiss subtracts squared norms, which loses digits where the data lie far from 0
    np.testing.assert_allclose(
        distances, np.sort(exact, axis=1)[:, :3], atol=1e-4 if kind != "faiss" else 1e-4 + offset
    )
    if not offset or kind != "faiss":
        assert np.array_equal(rows, np.argsort(exact, axis=1)[:, :3])
    assert distances.dtype == np.float32 and rows.dtype == np.int64


def test_pytorch_finds_a_patch_that_is_in_the_bank_at_distance_0(rng) -> None:
    bank = rng.standard_normal((50, 16)).astype(np.float32) + 30
    distances, rows = TorchSearch(bank, "cpu", pairs=100)(bank[::-1].copy(), 1)
    assert not distances.any() and np.array_equal(rows[:, 0], np.arange(50)[::-1])


def test_as_many_neighbours_as_the_bank_has(rng) -> None:
    bank = rng.standard_normal((5, 4)).astype(np.float32)
    for kind in SEARCHES.values():
        assert np.array_equal(np.sort(kind(bank)(bank, 5)[1]), np.tile(np.arange(5), (5, 1)))


def test_threads_take_turns_in_an_index_on_a_gpu(rng, monkeypatch) -> None:
    """Which faiss does not allow to be searched by two threads at once."""
    searching = threading.Lock()

    class OnGpu:
        def __init__(self, index) -> None:
            self.index, self.add = index, index.add

        def search(self, queries, k):
            assert searching.acquire(blocking=False), "two threads search at once"
            time.sleep(0.01)
            found = self.index.search(queries, k)
            searching.release()
            return found

    monkeypatch.setattr(search.faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(search.faiss, "index_cpu_to_gpu", lambda _, number, index: OnGpu(index), raising=False)
    bank = rng.standard_normal((50, 4)).astype(np.float32)
    shared = FaissSearch(bank, engine="faiss on a GPU")
    with ThreadPoolExecutor(4) as pool:
        for _, rows in pool.map(lambda _: shared(bank, 1), range(8)):
            assert np.array_equal(rows[:, 0], np.arange(50))


@pytest.mark.parametrize(
    ("device", "visible", "in_faiss", "in_torch", "engine"),
    [
        ("cpu", ["0"], 1, True, "faiss on the CPU"),
        ("auto", ["0"], 1, True, "faiss on a GPU"),
        ("cuda", [], 0, True, "PyTorch on a GPU"),
        ("auto", ["0"], 0, True, "PyTorch on a GPU"),
        ("auto", ["0"], 0, False, "faiss on the CPU"),
        ("auto", [], 0, False, "faiss on the CPU"),
    ],
)
def test_the_engine_is_one_that_finds_the_gpu(device, visible, in_faiss, in_torch, engine, monkeypatch) -> None:
    monkeypatch.setattr(search, "visible_devices", lambda: visible)
    monkeypatch.setattr(search.faiss, "get_num_gpus", lambda: in_faiss, raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: in_torch)
    assert choose_engine(device) == engine


def test_a_gpu_that_is_asked_for_and_not_there_is_an_error(monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(search.faiss, "get_num_gpus", lambda: 0, raising=False)
    with pytest.raises(ReconpatchError, match="device: cuda: neither faiss nor PyTorch"):
        choose_engine("cuda")


def test_without_a_gpu_a_search_does_not_wait_for_pytorch() -> None:
    code = """
import sys
import numpy as np
from reconpatch.method.search import search_in
search_in(np.zeros((3, 2), np.float32), device="auto")
print("torch" in sys.modules)
"""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("given", [None, "Haswell"])
def test_faiss_computes_with_the_instructions_that_numpy_uses(given) -> None:
    """Unless the user has said otherwise, in which case both obey; what is set for it is taken back."""
    code = """
import os
import reconpatch.method.search
from threadpoolctl import threadpool_info
print(os.environ.get("OPENBLAS_CORETYPE"))
found = [b["architecture"] for b in threadpool_info() if b["internal_api"] == "openblas"]
print(*{"SkylakeX" if name in ("SapphireRapids", "Cooperlake") else name for name in found})
"""
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
    if given is not None:
        environment["OPENBLAS_CORETYPE"] = given
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    variable, *architectures = done.stdout.split()
    assert variable == str(given) and len(architectures) <= 1
    assert given is None or architectures in ([given], [])
