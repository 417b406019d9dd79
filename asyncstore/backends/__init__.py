"""The backends that come with asyncstore, one module or package each."""
