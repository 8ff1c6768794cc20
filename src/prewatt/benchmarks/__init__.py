"""Measurements that anybody can repeat: `prewatt bench WHAT`. See `docs/performance.md`."""
