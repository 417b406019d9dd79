"""Streams that several watchers share: one source, each watcher through its own filter.

`hub.py` is the door for whoever runs watchers. `feed.py` with `ring.py` and `subscription.py` broadcasts what
`open_shared_stream` yields; `acknowledging.py` with `lanes.py` what a producer yields, and tells it who answered what.
`alone.py` runs one watcher without sharing.

Nothing is imported here: `triggers.abc` needs some of these modules, and `hub.py` needs `triggers.abc`.
"""
