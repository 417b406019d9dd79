"""The databases under the measurement: where they are, how they are filled and started."""
