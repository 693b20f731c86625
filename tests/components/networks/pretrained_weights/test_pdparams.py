""".pdparams files return the arrays that were saved; a file that calls other code is refused and runs nothing."""

import collections
import os
import pickle
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from components.errors import UserError
from components.networks.pretrained_weights.loading import load_backbone
from components.networks.pretrained_weights.pdparams import UnsafePickle, read_pdparams
from components.networks.structures import build
from components.networks.weights import state_arrays


@pytest.fixture(scope="module")
def network() -> Iterator[paddle.nn.Layer]:
    """A network for files that are refused, which leave it as it is."""
    network = build("mobilenetv2-fpn", 3)
    before = {name: array.copy() for name, array in state_arrays(network).items()}
    yield network
    for name, array in state_arrays(network).items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_what_paddle_saved_is_read(tmp_path, protocol):
    network = build("small-fpn", 3, 1)
    paddle.save(network.state_dict(), str(tmp_path / "a.pdparams"), protocol=protocol)
    found, expected = read_pdparams(tmp_path / "a.pdparams"), state_arrays(network)
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_tensors_with_names_of_their_own_and_orders_of_memory(tmp_path):
    arrays: dict[str, Any] = {
        "tensor": ("linear_0.w_0", np.arange(6.0).reshape(2, 3)),
        "columns": np.asfortranarray(np.arange(6, dtype=np.float16).reshape(2, 3)),
        "big": np.arange(4, dtype=">i4"),
        "one": np.array(2.5),
        "StructuredToParameterName@@": {"tensor": "linear_0.w_0"},
    }
    (tmp_path / "a.pdparams").write_bytes(pickle.dumps(collections.OrderedDict(arrays)))
    found = read_pdparams(tmp_path / "a.pdparams")
    assert list(found) == ["tensor", "columns", "big", "one"]
    np.testing.assert_array_equal(found["tensor"], arrays["tensor"][1])
    for name in ("columns", "big", "one"):
        np.testing.assert_array_equal(found[name], arrays[name])


class Wants:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "argument"),
    [(os.system, "touch {}"), (subprocess.getoutput, "touch {}"), (eval, "open('{}', 'w')"), (Path.touch, Path("x")),
     (getattr, "x"), (np.frombuffer, b"x"), (pickle.loads, b"x")],
)  # fmt: skip
@pytest.mark.parametrize("place", ["whole", "tensor", "inside an array"])
def test_a_hostile_pickle_is_refused_and_nothing_runs(tmp_path, network, function, argument, place):
    mark = tmp_path / "mark"
    wants = Wants(function, argument.format(mark) if isinstance(argument, str) else argument)
    content = {
        "whole": wants,
        "tensor": {"good": np.ones(3, np.float32), "bad": ("name", wants)},
        "inside an array": {"bad": np.array([wants], dtype=object)},
    }[place]
    path = tmp_path / "evil.pdparams"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(UnsafePickle):
        read_pdparams(path)
    with pytest.raises(UserError, match=r"evil\.pdparams cannot be read: it ") as caught:
        load_backbone(network, path)
    assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_replacement_classes_give_no_access_to_other_code(tmp_path):
    """Dotted names and attributes of the replacement classes are refused."""
    path = tmp_path / "a.pdparams"
    for module, name in (("numpy", "ndarray.__class__"), ("collections", "OrderedDict.__init__"), ("os", "system")):
        path.write_bytes(b"\x80\x04\x8c" + bytes([len(module)]) + module.encode() + b"\x8c" + bytes([len(name)])
                         + name.encode() + b"\x93.")  # fmt: skip
        with pytest.raises(UnsafePickle, match=rf"it tries to call {module}\.{name}$"):
            read_pdparams(path)


@pytest.mark.parametrize("damage", ["cut", "text", "shape"])
def test_a_damaged_file_is_one_line(tmp_path, network, damage):
    data = pickle.dumps({"a": np.ones((2, 3), np.float32)})
    path = tmp_path / "a.pdparams"
    path.write_bytes({"cut": data[:60], "text": b"<html>", "shape": data.replace(b"K\x02K\x03", b"K\x05K\x03")}[damage])
    with pytest.raises(UserError, match=r"a\.pdparams cannot be read: ") as caught:
        load_backbone(network, path)
    assert "\n" not in str(caught.value)


def test_a_backbone_from_pdparams_and_what_did_not_fit_is_said(tmp_path):
    source, target = build("mobilenetv2-fpn", 3, 1), build("mobilenetv2-fpn", 5, 2)
    arrays = {name: array for name, array in state_arrays(source).items() if name.startswith("features")}
    missing = list(arrays)[3:9]
    kept = {name: array for name, array in arrays.items() if name not in missing}
    classifier = {"classifier.1.weight": np.ones((2, 2), np.float32)}
    (tmp_path / "a.pdparams").write_bytes(pickle.dumps({**kept, **classifier}))
    match = load_backbone(target, tmp_path / "a.pdparams")
    assert str(match) == (
        f"249 of 255 backbone tensors; not in the file: {', '.join(missing[:4])} and 2 more; "
        "in the file and not used: classifier.1.weight"
    )
    np.testing.assert_array_equal(target.features[3].conv[0][0].weight.numpy(), arrays["features.3.conv.0.0.weight"])
