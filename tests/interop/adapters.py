"""Logits with adapters that PEFT loads, beside what Winnow computed: python adapters.py FOLDER, after write_adapters.ts FOLDER. Fails above 1e-3."""

import json
import os
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()

worst = 0.0
for name in sorted(os.listdir(sys.argv[1])):
    folder = os.path.join(sys.argv[1], name)
    with open(os.path.join(folder, "case.json")) as file:
        case = json.load(file)
    with open(os.path.join(folder, "adapter", "adapter_config.json")) as file:
        base = json.load(file)["base_model_name_or_path"]
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, os.path.join(folder, "adapter")).eval()
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([case["ids"]]), use_cache=False).logits[0].double()
    before, after = (torch.tensor(case[key], dtype=torch.float64).reshape(logits.shape) for key in ("before", "after"))
    difference = (after - logits).abs().max().item()
    worst = max(worst, difference)
    print(f"{name}: largest difference {difference:.2e}; the adapters move logits by up to {(after - before).abs().max().item():.2f}")
sys.exit(worst > 1e-3)
