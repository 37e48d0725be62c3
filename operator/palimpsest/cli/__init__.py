"""The command line: `palimpsest`, also `kubectl palimpsest`. One module per command."""
