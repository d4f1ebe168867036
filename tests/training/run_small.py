"""Trains the smallest model in a process of its own, noting each step's examples.

python -m tests.training.run_small WORKDIR DATA EXAMPLES_FILE [field=value ...]
"""

import json
import os
import signal
import sys
from pathlib import Path

from lpdiff_jax.cli import scripts
from lpdiff_jax.errors import Preempted, UserError
from lpdiff_jax.methods import registry
from lpdiff_jax.parallel import devices, processes
from lpdiff_jax.training import loop
from tests.training.small_model import small_model
from tests.training.tiny import tiny_config


def main(workdir: str, root: str, examples: str, *fields: str) -> None:
    values = dict(field.split("=") for field in fields)
    stop_at, fail_at = int(values.pop("stop_at", -1)), int(values.pop("fail_at", -1))
    if "process" in values:
        port, index, count = map(int, values.pop("process").split(","))
        processes.initialize(f"127.0.0.1:{port}", index, count)
    config = tiny_config(root, **{name: json.loads(value) for name, value in values.items()})
    registry.METHODS["lpdiff"] = small_model
    put_batch, taken = devices.Parallel.put_batch, []

    def noting_put_batch(self, batch):
        if "valid" not in batch:
            # One write: a process that is killed leaves whole lines.
            with open(examples, "a") as file:
                file.write(json.dumps(batch["index"].tolist()) + "\n")
            taken.append(1)
            if len(taken) == stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
            if len(taken) == fail_at:
                raise UserError("this batch cannot be read")
        return put_batch(self, batch)

    devices.Parallel.put_batch = noting_put_batch
    scripts.quieten_libraries()
    try:
        loop.train(config, Path(workdir))
    except UserError as error:
        scripts.fail(str(error))
    except Preempted as stopped:
        scripts.fail(str(stopped), scripts.PREEMPTED)


if __name__ == "__main__":
    main(*sys.argv[1:])
