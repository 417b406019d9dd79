"""Whether what several processes saw of the same keys could have happened one after the other."""
