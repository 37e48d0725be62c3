"""Regions of embedding space, made of synthetic instructions alone."""

CENTROIDS = "centroids.safetensors"
