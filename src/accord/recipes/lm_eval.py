"""EleutherAI's lm-eval on a model folder, its results kept in the store beside accord's own figures.

It is an extra (``pip install 'accord[lm-eval]'``) and Python only. Most of its tasks read their data from the
hub; a folder of one's own task files (``include``) needs none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from accord.errors import ConfigError
from accord.lm.model import LanguageModel, best_device, check_place
from accord.recipes.record import plain, recorded
from accord.store.lineage import Run
from accord.workspace import Workspace

RESULTS = "lm_eval.json"


def run_lm_eval(
    workspace: Workspace,
    model: str,
    tasks: Sequence[str],
    *,
    shots: int | None = None,
    limit: int | None = None,
    include: str | None = None,
    batch: int = 8,
) -> tuple[Run, Mapping[str, Any]]:
    """Run lm-eval's ``tasks`` on a folder or hub name; returns the run and lm-eval's results by task.

    ``shots`` are its few-shot examples (each task's own unless given), ``limit`` the cases of each task,
    ``include`` a folder of task files. The weights are read as float32. The run keeps ``lm_eval.json``.

    Raises:
        ConfigError: lm-eval is not installed, no task is named, or one is unknown.
        ModelError: the model cannot be loaded.
    """
    try:
        from lm_eval import simple_evaluate
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise ConfigError(f"lm-eval is not installed ({error}): pip install 'accord[lm-eval]'") from error
    manager = TaskManager(include_path=include)
    unknown = [task for task in tasks if task not in manager.all_tasks]
    if unknown or not tasks:
        raise ConfigError(
            f"lm-eval has no task {unknown[0]!r}; `lm-eval ls tasks` lists them"
            if unknown
            else "no task is named; `lm-eval ls tasks` lists them"
        )
    check_place(model)
    source = LanguageModel.load(model).weights_hash()
    settings = {"model": model, "tasks": list(tasks), "shots": shots, "limit": limit, "include": include}
    with recorded(workspace, "lm_eval", settings, [source]) as record:
        found = simple_evaluate(
            model="hf",
            model_args={"pretrained": model, "dtype": "float32"},
            tasks=list(tasks),
            num_fewshot=shots,
            limit=limit,
            batch_size=batch,
            device=best_device(),
            task_manager=manager,
            log_samples=False,
        )
        assert found is not None  # None comes of other ranks of a distributed run only
        results = json.loads(json.dumps(found["results"], default=str))
        record.write(RESULTS, {"results": results, "versions": plain(found.get("versions"))}, "lm-eval")
        record.metrics |= {f"{task}.{name}": value for task, row in results.items()
                           for name, value in row.items() if isinstance(value, float)}  # fmt: skip
    return workspace.store.run(record.run.id), results
