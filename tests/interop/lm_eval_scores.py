"""Scores of lm-evaluation-harness in float32 beside Winnow's.

    python lm_eval_scores.py FOLDER ...   each FOLDER as write_scores.ts wrote it; prints the largest differences, fails where one is too large

Made with lm-eval 0.4.13, torch 2.13.0 and transformers 5.23.0.
"""

import json
import math
import os
import sys
import tempfile

import lm_eval
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks.wikitext import preprocess_wikitext

failed = False


def check(what, difference, allowed):
    global failed
    failed |= not difference <= allowed
    return f"{what} {difference:.1e}"


def config(task, items, folder):
    """A local multiple-choice task over a JSON file."""
    path = os.path.join(folder, f"{task}.json".replace(" ", "_"))
    ending = "ending" in items[0]
    with open(path, "w") as file:
        for item in items:
            row = {"query": item["query"], "gold": item["gold"]}
            if ending:
                row |= {"choices": [item["query"] + choice for choice in item["choices"]], "ending": item["ending"][1:]}
            else:
                row |= {"choices": [choice.removeprefix(" ") for choice in item["choices"]], "delimiter": " "}
            file.write(json.dumps(row) + "\n")
    return {
        "task": task,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": path}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{gold}}" if ending else "query",
        "doc_to_choice": "choices",
        "doc_to_target": "ending" if ending else "gold",
        "target_delimiter": " " if ending or items[0]["choices"][0].startswith(" ") else "",
        "metric_list": [{"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in ("acc", "acc_norm", "acc_bytes")],
    }


for folder in sys.argv[1:]:
    with open(os.path.join(folder, "case.json")) as file:
        case = json.load(file)
    model = HFLM(pretrained=folder, dtype="float32", device="cpu", batch_size=64)
    with tempfile.TemporaryDirectory() as data:
        tasks = [config(task, items, data) for task, items in case["tasks"].items()]
        got = lm_eval.simple_evaluate(model=model, tasks=tasks, log_samples=True)
    worst, requests, metric = 0.0, 0, 0.0
    for ours in case["scores"]:
        task = ours["task"]
        samples = sorted(got["samples"][task], key=lambda sample: sample["doc_id"])
        for sample, likelihoods in zip(samples, ours["logLikelihoods"], strict=True):
            for (theirs, _), mine in zip(sample["filtered_resps"], likelihoods, strict=True):
                worst, requests = max(worst, abs(float(theirs) - mine)), requests + 1
        result = got["results"][task]
        for key, name in (("acc", "acc"), ("accNorm", "acc_norm"), ("accBytes", "acc_bytes"), ("stderr", "acc_stderr"), ("stderrNorm", "acc_norm_stderr")):
            difference = abs(ours[key] - result[f"{name},none"])
            metric = max(metric, difference)
            if difference > 1e-9:
                print(f"  {task}: {key} is {ours[key]}, theirs {result[f'{name},none']}, {len(samples)} items")
    documents = [preprocess_wikitext.wikitext_detokenizer({"page": page}) for page in case["pages"]]
    same = documents == case["documents"]
    failed |= not same
    rolling = [Instance("loglikelihood_rolling", {}, (document,), i) for i, document in enumerate(documents)]
    weighed = [preprocess_wikitext.process_results({"page": page}, [value]) for page, value in zip(case["pages"], model.loglikelihood_rolling(rolling))]
    sums = {key: sum(w[key][0] for w in weighed) / sum(w[key][1] for w in weighed) for key in weighed[0]}
    theirs = {
        "wordPerplexity": math.exp(-sums["word_perplexity"]),
        "bytePerplexity": math.exp(-sums["byte_perplexity"]),
        "bitsPerByte": -sums["bits_per_byte"] / math.log(2),
    }
    relative = max(abs(case["perplexity"][key] / value - 1) for key, value in theirs.items())
    print(
        f"{case['name']}: {requests} requests of {len(case['scores'])} tasks,",
        check("largest difference of log-likelihoods", worst, 2e-3) + ",",
        check("of acc, acc_norm, acc_bytes and their errors", metric, 1e-9) + ";",
        f"{len(documents)} pages {'the same' if same else 'DIFFERENT'},",
        check(f"word perplexity {case['perplexity']['wordPerplexity']:.6g}, relative difference", relative, 1e-4),
        flush=True,
    )
sys.exit(failed)
