"""One training on several processes of several pods: who they are, how they start and agree."""
