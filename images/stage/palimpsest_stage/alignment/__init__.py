"""What the methods of alignment share: checkpoints, packing, evaluation, what they publish."""
