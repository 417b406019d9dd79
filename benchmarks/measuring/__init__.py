"""How a figure is read: the loop, the spread of several rounds, and rounds in turn."""
