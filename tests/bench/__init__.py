"""Benchmarks: a subject and a baseline, alternated in one process, compared pair by pair."""
