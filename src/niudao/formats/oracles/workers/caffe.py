"""Runs a prototxt with its caffemodel in Caffe, or in OpenCV as a second reader of the same files.

Settings:
    weights: Path of the .caffemodel (or .caffemodel.h5); without it the fillers give the weights.
    outputs: Names of the blobs to return; the network's outputs if left out.
    reader: "caffe" or "opencv".
    save: Where to write the weights after loading, as a .caffemodel.
"""

from importlib import import_module
from typing import Any, Dict, List, Tuple


def version() -> str:
    """What runs."""
    return "caffe " + str(import_module("caffe").__version__)


def run(path: str, feeds: Dict[str, Any], settings: Dict[str, Any]) -> List[Tuple[str, Any]]:
    """The outputs in the order of the network, or as `outputs` names them."""
    if settings.get("reader", "caffe") == "opencv":
        return opencv(path, feeds, settings)
    import numpy as np

    caffe = import_module("caffe")

    caffe.set_mode_cpu()
    weights = settings.get("weights")
    net = caffe.Net(path, caffe.TEST, weights=weights) if weights else caffe.Net(path, caffe.TEST)
    if settings.get("save"):
        net.save(settings["save"])
    inputs = {}
    for name, array in feeds.items():
        if name not in net.blobs:
            raise ValueError("the network has no input called " + repr(name) + "; it takes " + ", ".join(net.inputs))
        inputs[name] = np.ascontiguousarray(array, np.float32)
        net.blobs[name].reshape(*inputs[name].shape)
    missing = [name for name in net.inputs if name not in inputs]
    if missing:
        raise ValueError("the input " + repr(missing[0]) + " is missing")
    net.reshape()
    for name, array in inputs.items():
        net.blobs[name].data[...] = array
    net.forward()
    wanted = settings.get("outputs") or list(net.outputs)
    unknown = [name for name in wanted if name not in net.blobs]
    if unknown:
        raise ValueError("the network has no blob called " + repr(unknown[0]))
    return [(name, net.blobs[name].data.copy()) for name in wanted]


def opencv(path: str, feeds: Dict[str, Any], settings: Dict[str, Any]) -> List[Tuple[str, Any]]:
    """The same by OpenCV's importer of Caffe files."""
    import numpy as np

    cv2 = import_module("cv2")

    net = cv2.dnn.readNetFromCaffe(path, settings["weights"])
    net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    net.setPreferableTarget(cv2.dnn.DNN_TARGET_CPU)
    for name, array in feeds.items():
        net.setInput(np.ascontiguousarray(array, np.float32), name)
    wanted = settings.get("outputs") or list(net.getUnconnectedOutLayersNames())
    return [(name, np.array(array)) for name, array in zip(wanted, net.forward(wanted))]
