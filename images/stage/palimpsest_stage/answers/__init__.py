"""Answers to instructions: how each ended, how they are kept, and how an endpoint is asked."""
