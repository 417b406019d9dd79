"""An event runtime on top of asyncstore."""
