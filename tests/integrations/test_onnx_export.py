"""ONNX files: the graph is the network at every size and batch, and the file is whole or not there."""

import numpy as np
import pytest
import torch

from sagd_cli.config.layers import resolve
from sagd_cli.errors import SagdError, UsageError
from sagd_cli.integrations import onnx_export
from sagd_cli.integrations.catalogue import PACKAGED_MODEL, ExportRequest
from sagd_cli.integrations.onnx_export import export_onnx, export_to_onnx
from sagd_cli.model.classes import Classes
from sagd_cli.model.model import Model
from sagd_cli.model.network import build_backbone, seen_shape
from sagd_cli.system.console import Output

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def made(settings, shape, classes=0):
    """Return a model of random weights, none of them zero."""
    config = resolve(settings)
    torch.manual_seed(0)
    network = build_backbone(config.backbone, seen_shape(config, shape), classes)
    for values in network.parameters():
        torch.nn.init.normal_(values, std=0.2)
    labels = Classes(tuple("abcdefgh"[:classes]), (5,) * classes, "0") if classes else None
    weights = config.filter.weights(shape[1:])
    return Model("a model", config, network.eval(), 0, weights, shape, np.dtype(np.uint8), labels, {})


def restoring():
    backbone = {
        "backbone.name": "residual",
        "backbone.options": {"channels": [8, 8], "blocks": 1, "patch": 2},
    }
    settings = {"restoration.bands": ["any"], "training.crops": [16], **backbone}
    return made(settings, (1, 16, 16))


def test_a_restoring_network_takes_every_batch_and_size_of_its_multiple(tmp_path):
    model, path = restoring(), tmp_path / "new" / "network.onnx"
    about = export_onnx(model, path)
    assert about["kind"] == "restorer" and about["difference"] <= 1e-4
    assert "multiples of 4" in about["inputs"]["planes"]
    session = onnxruntime.InferenceSession(path)
    for shape in ((1, 4, 4, 4), (5, 4, 20, 8), (2, 4, 36, 28)):
        planes = torch.randn(shape)
        (found,) = session.run(None, {"planes": planes.numpy()})
        with torch.no_grad():
            expected = model.network(planes, torch.zeros(len(planes)))[:, :1].numpy()
        assert np.abs(found - expected).max() <= 1e-4 * max(1, np.abs(expected).max())
    said = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert said["sagd.kind"] == "restorer" and "Wiener" in said["sagd.planes"]


def classed():
    options = {"depth": 1, "heads": 2, "head_width": 8}
    settings = {"backbone.name": "dit", "backbone.options": options, "class_conditional": True}
    return made({**settings, "filter.type": "lowpass", "blind": True, "prediction": "v"}, (1, 8, 8), 3)


@pytest.mark.slow
def test_a_network_of_one_size_keeps_it_and_takes_labels(tmp_path):
    model, path = classed(), tmp_path / "network.onnx"
    export_onnx(model, path)
    session = onnxruntime.InferenceSession(path)
    assert {each.name: each.shape for each in session.get_inputs()} == {
        "x_t": ["batch", 1, 8, 8],
        "timestep": ["batch"],
        "labels": ["batch"],
    }
    x_t, timestep, labels = (
        torch.randn(4, 1, 8, 8),
        torch.tensor([0.0, 1.5, 500, 999]),
        torch.tensor([0, 1, 2, 0]),
    )
    given = {"x_t": x_t.numpy(), "timestep": timestep.numpy(), "labels": labels.numpy()}
    (found,) = session.run(["prediction"], given)
    with torch.no_grad():
        expected = model.network(x_t, timestep, labels).numpy()
    assert np.abs(found - expected).max() <= 1e-4 * max(1, np.abs(expected).max())
    said = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert (said["sagd.prediction"], said["sagd.classes"]) == ("v", '["a", "b", "c"]')
    assert said["sagd.filter_sha256"] == model.config.filter.sha256()


@pytest.mark.slow
def test_a_unet_with_attention_that_folds_pixels(tmp_path):
    options = {"channels": [8, 8], "attention": [False, True], "layers_per_block": 1, "patch": 2}
    about = export_onnx(made({"backbone.options": options}, (1, 16, 16)), tmp_path / "network.onnx")
    assert about["difference"] <= 1e-4
    assert "multiples of 4" in about["inputs"]["x_t"]


def test_nothing_is_written_where_it_is_refused(tmp_path, monkeypatch):
    model, path = restoring(), tmp_path / "network.onnx"
    path.write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        export_onnx(model, path)
    with pytest.raises(UsageError, match="no name of an ONNX file"):
        export_onnx(model, tmp_path / "config.yaml", force=True)
    monkeypatch.setattr(onnx_export, "_MOST_BYTES", 100)
    with pytest.raises(UsageError, match="less than 2 GiB"):
        export_onnx(model, path, force=True)
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="needs the package onnx") as raised:
        export_onnx(model, path, force=True)
    assert 'pip install "sagd[onnx]"' in raised.value.hint
    assert [each.name for each in tmp_path.iterdir()] == ["network.onnx"] and path.read_text() == "mine"


def test_what_fails_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise ValueError("no such operator")

    monkeypatch.setattr(torch.onnx, "export", fails)
    with pytest.raises(SagdError, match="cannot be exported to ONNX: no such operator"):
        export_onnx(restoring(), tmp_path / "network.onnx")
    assert not [*tmp_path.iterdir()]


def test_a_graph_that_says_something_else_is_refused():
    graph = onnx_export._Graph.of(restoring())
    values = onnx.helper.make_tensor_value_info
    nodes = [onnx.helper.make_node("Slice", ["planes", "zero", "one", "axis"], ["correction"])]
    constants = [
        onnx.numpy_helper.from_array(np.array([n]), name)
        for n, name in ((0, "zero"), (1, "one"), (1, "axis"))
    ]
    fields = [values(name, onnx.TensorProto.FLOAT, [None] * 4) for name in ("planes", "correction")]
    proto = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "wrong", fields[:1], fields[1:], constants),
        opset_imports=[onnx.helper.make_opsetid("", 20)],
        ir_version=10,
    )
    with pytest.raises(SagdError, match="differs from torch's"):
        graph.check(proto, proto.SerializeToString())


def test_the_command_takes_a_run_or_the_restorer_and_no_sampler(tmp_path, monkeypatch, tiny_run):
    given = []
    monkeypatch.setattr(onnx_export, "export_onnx", lambda model, *_: given.append(model) or {})
    for run in (tiny_run, PACKAGED_MODEL):
        export_to_onnx(ExportRequest(run, tmp_path / "n.onnx", False, None, {}), Output(quiet=True))
    assert [model.config.restoration is None for model in given] == [True, False]
    with pytest.raises(UsageError, match="no sampler"):
        export_to_onnx(ExportRequest(tiny_run, tmp_path, False, None, {"steps": 5}), Output(quiet=True))
