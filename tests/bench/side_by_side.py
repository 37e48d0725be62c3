"""Trainings side by side, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import torch


def workers(at_once: int) -> ProcessPoolExecutor:
    """So many processes, which share the machine's cores."""
    threads = max(1, (os.cpu_count() or 1) // at_once)
    # Spawned: a CUDA device survives no fork.
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(at_once, spawn, torch.set_num_threads, (threads,))
