"""Mask parts of four data sets, and measure how well each method predicts them.

    python benchmarks/imputation.py
    python benchmarks/imputation.py --tasks thinning --data-sets pbmc3k "her2st H1"

writes results/imputation.csv.gz. What was computed before is taken from the cache; see README.md in this folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import methods  # noqa: F401 registers the methods of other packages
import pandas as pd
from common import DATA_SETS, HERE, SAMPLE_KEY, cached, circumstances, default_data, hash_of_code, hash_of_data, read

import scanpy_sct as sct

WHOLE = ("her2st G, H", "pbmc3k", "breast_wu", "heart CN73")
SIMPLE = ("predict_zero", "gene_mean", "bag_mean", "poisson_dataset", "poisson_bag", "knn_vote", "knn_poisson", "svd")
STRONG = ("magic", "magic_reversed", "alra")
MODEL = ("sct_network", "sct", "sct_finetuned")
# What one call computes: tasks, data sets, methods. `spatial_mean` and `cell_type_mean` join where the data serve them.
PLAN = (
    (("entries_15",), WHOLE, (*SIMPLE, "spatial_mean", "cell_type_mean", *STRONG, *MODEL)),
    (("entries_15",), ("pbmc3k", "heart CN73"), ("scvi",)),
    (("thinning",), ("pbmc3k", "her2st H1"), ("no_imputation", "poisson_dataset", "knn_poisson", "svd", *STRONG)),
    (("thinning",), ("pbmc3k", "her2st H1"), MODEL),
    (("genes", "panel_300", "panel_1000", "panel_5000"), WHOLE, ("predict_zero", "bag_mean", "training_rates", "sct")),
    (("entries_50", "entries_90"), WHOLE, ("poisson_dataset", "knn_poisson", "svd", "sct_network", "sct")),
)
SPATIAL = ("her2st G, H", "heart CN73", "her2st H1")
# Code on which the numbers depend: a change to it invalidates the cache.
TASK_CODE = ("read", "plan/bags.py", "plan/bins.py", "evaluate/masking.py", "evaluate/source.py", "evaluate/tasks.py")
TASK_CODE += ("evaluate/_arguments.py", "evaluate/observed.py", "evaluate/metrics", "sparse_tools.py")
PREDICTION = ("model", "checkpoints", "plan", "run")
MODEL_CODE = (*PREDICTION, "impute", "tl/_impute.py", "evaluate/methods/sct.py")
METHOD_CODE = {
    "sct_finetuned": (*MODEL_CODE, "train"),
    **dict.fromkeys(("sct", "sct_network"), MODEL_CODE),
    "training_rates": ("evaluate/methods/sct.py",),
}
OTHER_CODE = ("evaluate/methods/baselines.py", "evaluate/methods/rates.py", HERE / "methods")


def main() -> None:
    options = parse()
    sct.settings.progress = False
    checkpoint = sct.load_model(options.model)
    tables = []
    for tasks, data_sets, names in PLAN:
        for name in data_sets:
            for task in tasks:
                if name in options.data_sets and task in options.tasks:
                    chosen = [method for method in names if serves(method, name) and method in options.methods]
                    tables += [result(name, task, method, checkpoint, options) for method in chosen]
    results = pd.concat([table for table in tables if table is not None], ignore_index=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    results.to_csv(options.output, index=False)
    print(f"Written to {options.output}")


def parse() -> argparse.Namespace:
    every_task = [task for tasks, _, _ in PLAN for task in tasks]
    every_method = sorted({method for _, _, names in PLAN for method in names})
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_data(), help="folder that holds dev/ (%(default)s)")
    parser.add_argument("--data-sets", nargs="+", choices=DATA_SETS, default=list(DATA_SETS), metavar="NAME")
    parser.add_argument("--tasks", nargs="+", choices=every_task, default=every_task, metavar="TASK")
    parser.add_argument("--methods", nargs="+", choices=every_method, default=every_method, metavar="METHOD")
    parser.add_argument("--model", default="sct-mini", help="name, folder or hub id")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "imputation.csv.gz")
    parser.add_argument("--fresh", action="store_true", help="compute again what is in the cache")
    parser.add_argument("--cached", action="store_true", help="write what is in the cache, compute nothing")
    return parser.parse_args()


def serves(method: str, data_set: str) -> bool:
    if method == "spatial_mean":
        return data_set in SPATIAL
    return method != "cell_type_mean" or data_set not in SPATIAL


def result(name: str, task: str, method: str, checkpoint, options: argparse.Namespace) -> pd.DataFrame | None:
    is_model = method.startswith(("sct", "training"))
    depends_on = {
        "data": hash_of_data(name, options.data),
        "task": task,
        "method": method,
        "seed": options.seed,
        "genes": "".join(checkpoint.genes),
        "code": hash_of_code(*TASK_CODE, *METHOD_CODE.get(method, OTHER_CODE)),
        "weights": checkpoint.sha256 if is_model else "",
    }

    def compute() -> pd.DataFrame:
        table = sct.evaluate.imputation(
            read(name, options.data),
            tasks=task,
            methods=method,
            model=checkpoint,
            library_key=SAMPLE_KEY,
            labels_key=DATA_SETS[name][2] if method == "cell_type_mean" else None,
            rng=options.seed,
        )
        model = {"model": checkpoint.name, "weights": checkpoint.sha256} if is_model else {"model": "", "weights": ""}
        return table.assign(data_set=name, seed=options.seed, **model, **circumstances())

    label = f"imputation-{name}-{task}-{method}".replace(" ", "_")
    return cached(label, depends_on, None if options.cached else compute, options.fresh)


if __name__ == "__main__":
    main()
