"""Makes a release of a commit: images, chart, plugin, what they consist of, and their digests."""
