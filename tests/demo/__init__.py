"""The demo: the whole pipeline on a real cluster, checked from outside and shown in a report."""
