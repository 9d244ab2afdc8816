"""Runs a network of PyTorch in the torch of its environment: a .pt2, or source that niudao wrote with its weights beside it."""

from typing import Any, Dict, List, Tuple


def version() -> str:
    """What runs."""
    import torch

    return "torch " + str(torch.__version__)


def run(path: str, feeds: Dict[str, Any], settings: Dict[str, Any]) -> List[Tuple[str, Any]]:
    """The outputs by position; `settings["names"]` are the inputs in the order in which the network takes them."""
    import torch

    torch.set_num_threads(1)
    if path.lower().endswith(".pt2"):
        network = torch.export.load(path).module()
    else:
        import runpy

        network = runpy.run_path(path)["load"](settings["weights"])
    missing = [name for name in settings["names"] if name not in feeds]
    if missing:
        raise ValueError("the input " + repr(missing[0]) + " is missing; given: " + ", ".join(feeds))
    with torch.no_grad():
        got = network(*[torch.from_numpy(feeds[name]) for name in settings["names"]])
    outputs = list(got) if isinstance(got, (tuple, list)) else [got]
    return [("output_" + str(number), output.detach().numpy()) for number, output in enumerate(outputs)]
