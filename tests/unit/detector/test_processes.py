"""A fitted model in copies, in other processes and in several threads."""

import copy
import io
import os
import pickle
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from process_state import restored, state
from products import detector, product
from running import ROOT

from reconpatch.detector.estimator import ReConPatch

READ = "import pickle, sys\nmodel, images, scores, maps = pickle.load(open(sys.argv[1], 'rb'))\n"
READ += "assert (model.anomaly_scores(images) == scores).all() and (model.anomaly_maps(images) == maps).all()\n"
READ += "assert model.predict(images).tolist() == [1, -1] and 'model' in repr({'model': model})\n"


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return [np.asarray(product(n, defect=n == 101)) for n in (100, 101)]


def test_copies_give_the_same_bytes(model, saved, pictures, tmp_path) -> None:
    want = model.anomaly_maps(pictures)
    stream = io.BytesIO()
    torch.save(model, stream)
    stream.seek(0)
    joblib.dump(model, tmp_path / "model.joblib")
    copies = [
        copy.copy(model),
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        joblib.load(tmp_path / "model.joblib"),
        torch.load(stream, weights_only=False),
        pickle.loads(pickle.dumps(ReConPatch.load(saved, device="cpu", threads=1))),
    ]
    for each in copies:
        np.testing.assert_array_equal(each.anomaly_maps(pictures), want)
        assert each.threshold_ == model.threshold_ and each.detector_.run == model.detector_.run
    assert copies[2].save(tmp_path / "again").identity == model.save(tmp_path / "once").identity


def test_a_probed_network_is_probed_in_its_copy_too(good, pictures) -> None:
    probed = detector(method="patchcore", settings={**detector().settings, "batch_norm": "probed"}, hold_out=0).fit(
        good
    )
    again = pickle.loads(pickle.dumps(probed))
    np.testing.assert_array_equal(again.anomaly_scores(pictures), probed.anomaly_scores(pictures))


def test_a_new_process_reads_a_pickle(model, pictures, tmp_path) -> None:
    """As the workers of joblib and of multiprocessing's spawn do."""
    given = model, pictures, model.anomaly_scores(pictures), model.anomaly_maps(pictures)
    (tmp_path / "given").write_bytes(pickle.dumps(given))
    done = subprocess.run([sys.executable, "-c", READ, tmp_path / "given"], cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


FORK = """
import os, sys, warnings
sys.path[:0] = sys.argv[1:3]
import numpy as np
from products import detector, product
images = [product(n) for n in range(12)]
model = detector(threads=2).fit(images)
want = model.anomaly_maps(images)
child = os.fork()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    right = np.array_equal(model.anomaly_maps(images), want)
    again = detector(threads=2).fit(images)
    right &= np.array_equal(again.detector_.bank.patches, model.detector_.bank.patches)
    right &= any("forked process computes with one thread" in str(each.message) for each in caught) == (child == 0)
if child == 0:
    os._exit(0 if right else 3)
assert right and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def test_a_forked_process_answers() -> None:
    """OpenMP and numba have started threads before the fork; both processes predict and fit the same."""
    folders = [str(Path(ROOT, "tests")), str(Path(ROOT))]
    environment = os.environ | {"OMP_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "2"}
    command = [sys.executable, "-c", FORK, *folders]
    done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr


UNFINISHED = """
import os, pickle, sys
sys.path[:0] = sys.argv[1:3]
import timm, torch
from process_state import state
from products import detector, product
from reconpatch.device import ALONE
images = [product(n) for n in range(6)]
model = detector(batch_images=2).fit(images)
torch.set_num_threads(3)
before = state()
one, other, dropped, left = (model.detector_(images) for _ in range(4))
for each in (one, other, dropped, left):
    next(each)
    assert state() == before
assert len(list(one)) == len(list(other)) == 5 and state() == before
create = timm.create_model
timm.create_model = lambda *given, **named: (dropped.close(), create(*given, **named))[1]
again = pickle.loads(pickle.dumps(model))
assert again.predict(images).tolist() == model.predict(images).tolist() and state() == before
with ALONE:
    child = os.fork()
if child == 0:
    os._exit(0 if ALONE.acquire(timeout=10) else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def test_iterators_that_are_not_taken_to_their_end_disturb_nothing() -> None:
    """They may be interleaved, closed while a network is built, as the garbage collector does it at any time, and
    alive when Python ends. Whoever builds a network may fork.
    """
    folders = [str(Path(ROOT, "tests")), str(Path(ROOT))]
    command = [sys.executable, "-c", UNFINISHED, *folders]
    done = subprocess.run(command, text=True, capture_output=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")


def test_threads_disturb_neither_each_other_nor_the_process(model, good, saved, pictures) -> None:
    """They predict, load, copy and fit at once, while another one uses a network of its own."""
    want, bank = model.anomaly_maps(pictures), model.detector_.bank.patches
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 2))
    ones = torch.ones(1, 3, 8, 8)
    expected, ended = net(ones), threading.Event()

    def others() -> None:
        while not ended.is_set():
            assert torch.allclose(net(ones), expected)

    def work(n: int) -> None:
        for own in (
            [model.detector_] if n % 2 else [],
            [
                ReConPatch.load(saved, device="cpu", threads=1 + n % 2).detector_,
                pickle.loads(pickle.dumps(model)).detector_,
            ],
            [detector(false_alarm_rate=0.2).fit(good).detector_],
        ):
            for each in own:
                np.testing.assert_array_equal(each.bank.patches, bank)
                np.testing.assert_array_equal([detection.map for detection in each(pictures)], want)

    with restored():
        torch.set_num_threads(3)
        before = state()
        with ThreadPoolExecutor(5) as pool:
            other = pool.submit(others)
            try:
                list(pool.map(work, range(4)))
            finally:
                ended.set()
            other.result()
        assert state() == before


def test_a_pickle_is_not_larger_than_the_model(model, saved) -> None:
    """It holds the weights once, not the prepared network beside them."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        size = len(pickle.dumps(model))
    assert size < 1.5 * sum(file.stat().st_size for file in saved.iterdir())
