"""Run one worker under limits: `launch.py FOLDER`, which holds task.json and feeds.npz and gets results.npz and results.json.

task.json: worker, path, settings, names (of the arrays "0", "1", ... in feeds.npz), seconds, memory, paths.
results.json: names and version; or, where it failed, failure (the exception's class) and message.
"""

import json
import os
import sys
from importlib import util
from typing import Any, Dict


def limit(seconds: float, memory: int) -> None:
    """Limits of the whole process. Processor time is the net below the parent's clock, should the parent die."""
    try:
        import resource
    except ImportError:  # Windows
        return
    wanted = ((resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, memory), (resource.RLIMIT_CPU, 4 * int(seconds + 1)))
    for what, most in (*wanted, (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, hard))


def load(path: str, name: str) -> Any:
    """A module from its file."""
    spec = util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("no module can be made from " + path)
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def work(folder: str, task: Dict[str, Any]) -> Dict[str, Any]:
    """Run the network; returns what goes into results.json."""
    import numpy as np

    feeds = {}
    with np.load(os.path.join(folder, "feeds.npz"), allow_pickle=False) as given:  # noqa: PTH118
        for number, name in enumerate(task["names"]):
            feeds[name] = given[str(number)]
    worker = load(task["worker"], "niudao_worker")
    version = worker.version()
    with open(os.path.join(folder, "loaded"), "w"):  # noqa: PTH118 - until here it is not the network's fault
        pass
    results = worker.run(task["path"], feeds, task["settings"])
    arrays = {str(number): np.asarray(array) for number, (_, array) in enumerate(results)}
    np.savez(os.path.join(folder, "results.npz"), **arrays)  # type: ignore[arg-type]  # noqa: PTH118
    return {"names": [name for name, _ in results], "version": version}


def main(folder: str) -> int:
    """Limits, work, and how it went."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    load(os.path.join(here, "tie.py"), "niudao_tie").tie()  # noqa: PTH118
    with open(os.path.join(folder, "task.json"), encoding="utf-8") as file:  # noqa: PTH118
        task = json.load(file)
    limit(task["seconds"], task["memory"])
    sys.path.extend(p for p in task["paths"] if p not in sys.path)
    try:
        done = work(folder, task)
    except Exception as e:
        done = {"failure": type(e).__name__, "message": str(e)[-4000:]}
    with open(os.path.join(folder, "results.json"), "w", encoding="utf-8") as file:  # noqa: PTH118
        json.dump(done, file)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if "failure" in done else 0)  # some frameworks hang or crash while they are taken down


if __name__ == "__main__":
    main(sys.argv[1])
