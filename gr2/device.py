"""Where language models are trained and asked: the first GPU that torch sees, or the CPU. (ours)

`CUDA_VISIBLE_DEVICES=` (empty) keeps to the CPU. All that is no language model stays there: features, trees, SASRec.
"""

import os
import platform

import torch


def home() -> torch.device:
    """The device of every language model."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def hardware() -> str:
    """This machine, for the records of what was made on it."""
    cpu = f"{platform.machine()}, {os.cpu_count()} cores"
    return f"{cpu}, {torch.cuda.get_device_name(0)}" if torch.cuda.is_available() else cpu
