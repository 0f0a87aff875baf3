"""Token vectors on disk: shards, index, locks, limits."""
