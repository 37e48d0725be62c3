"""One file a policy: what may happen to a stage, and when. Pure; `charges` and `stages` ask."""
