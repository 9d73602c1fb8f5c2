"""The requests that lm-evaluation-harness makes of hand-made rows, with its own task files.

    python lm_eval_requests.py ROWS.json FOLDER

ROWS.json is tests/evaluate/tasks/rows.json. FOLDER gets requests.json, and the rows as parquet files of the library `datasets` under data/,
for compare_requests.ts. Made with lm-eval 0.4.13.
"""

import glob
import json
import os
import sys

import datasets
import lm_eval.api.task
from lm_eval.tasks import TaskManager

rows_file, folder = sys.argv[1:]
with open(rows_file) as file:
    tables = {name: table["rows"] for name, table in json.load(file).items()}
MMLU = "mmlu_high_school_us_history"
for path in glob.glob(os.path.join(os.path.dirname(lm_eval.tasks.__file__), "mmlu", "default", "mmlu_*.yaml")):
    tables.setdefault(os.path.basename(path).removesuffix(".yaml"), tables[MMLU])

# Columns of class labels, as the hub's datasets have them.
LABELS = {
    "boolq": {"label": ["False", "True"]},
    "rte": {"label": ["entailment", "not_entailment"]},
    "mmlu": {"answer": ["A", "B", "C", "D"]},
}
current = None


def local(path, name=None, **_):
    """Stands in for datasets.load_dataset: the hand-made rows in every split."""
    data = datasets.Dataset.from_list(tables[current])
    for column, names in LABELS.get(current.split("_")[0], {}).items():
        data = data.cast_column(column, datasets.ClassLabel(names=names))
    places[current] = (path, name or "default", data)
    return datasets.DatasetDict({split: data for split in ("train", "validation", "test", "dev")})


datasets.load_dataset = lm_eval.api.task.datasets.load_dataset = local
places, requests = {}, {}
manager = TaskManager()
for current in tables:
    task = manager.load_task_or_group(current)[current]
    task.build_all_requests(limit=None, rank=0, world_size=1)
    repository, config, data = places[current]
    split = task.config.test_split or task.config.validation_split
    path = os.path.join(folder, "data", repository, config, split)
    os.makedirs(path, exist_ok=True)
    data.to_parquet(os.path.join(path, "0000.parquet"))
    documents = [{"requests": [], "gold": task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)} for doc in task.eval_docs]
    for instance in task.instances:
        documents[instance.doc_id]["requests"].append(instance.args)
    metrics = {"acc": "acc", "acc_norm": "accNorm"}
    requests[current] = {
        "version": task.VERSION,
        "tags": task.config.tag,
        "metrics": [metrics[entry["metric"]] for entry in task.config.metric_list],
        "documents": documents,
    }
with open(os.path.join(folder, "requests.json"), "w") as file:
    json.dump(requests, file)
