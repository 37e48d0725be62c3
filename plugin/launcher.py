#!/usr/bin/env python3
"""Starts the program that this file is named after, with the libraries beside it."""

import os
import sys

PYTHONS = ((3, 11), (3, 12), (3, 13))

if sys.version_info[:2] not in PYTHONS:
    sys.exit("kubectl-palimpsest: put Python 3.11, 3.12 or 3.13 on the PATH, as python3")

# krew and people link to this file: the libraries lie beside the file itself.
sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "lib"))

if os.path.basename(sys.argv[0]).startswith("kubectl_complete"):
    from palimpsest.cli.completion import kubectl as main
else:
    from palimpsest.cli.main import main

main()
