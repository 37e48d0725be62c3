"""The arithmetic of differential privacy: sampling, clipping, noise. No I/O."""
