"""Logits that transformers computes for checkpoints, in float32.

    python logits.py FOLDER ...            each FOLDER holds a checkpoint and case.json {"name", "ids"}; prints figures as JSON
    python logits.py --compare FOLDER ...  each FOLDER also holds logits.json, what Winnow computed; prints the largest difference, fails
                                           above 1e-3; generates in the stored type, and in float32, where the likeliest token must be first
"""

import json
import os
import sys

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()

compare = sys.argv[1] == "--compare"
figures, worst = {}, 0.0
for folder in sys.argv[1 + compare :]:
    with open(os.path.join(folder, "case.json")) as file:
        case = json.load(file)
    # Only a checkpoint that brings its own classes needs the trust.
    own = os.path.exists(os.path.join(folder, "modeling_winnow.py"))
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True, trust_remote_code=own)
    if any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")):
        raise SystemExit(f"{folder}: {info}")
    ids = torch.tensor([case["ids"]])
    with torch.inference_mode():
        logits = model.eval()(input_ids=ids, use_cache=False).logits[0].double()
    if compare:
        with open(os.path.join(folder, "logits.json")) as file:
            ours = torch.tensor(json.load(file), dtype=torch.float64).reshape(logits.shape)
        difference = (ours - logits).abs().max().item()
        worst = max(worst, difference)
        stored = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=own)
        written = stored.generate(ids[:, :8], max_new_tokens=8, min_new_tokens=8, do_sample=False)
        first = model.generate(ids[:, :8], max_new_tokens=1, do_sample=False)[0, 8]
        if written.shape[1] != 16 or first != logits[7].argmax():
            raise SystemExit(f"{folder}: generated {written.tolist()}, and {first} where {logits[7].argmax()} is the likeliest")
        print(f"{case['name']}: {tuple(logits.shape)}, largest difference {difference:.2e}; generates in {stored.dtype}")
    else:
        row = lambda i: [float(f"{v:.6g}") for v in logits[i, :6]]
        figures[case["name"]] = {"norm": float(f"{logits.norm():.8g}"), "first": row(0), "middle": row(len(logits) // 2), "last": row(-1)}
if compare:
    sys.exit(worst > 1e-3)
print(json.dumps(figures, indent=2))
