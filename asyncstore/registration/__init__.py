"""How a registration of an asset is decided, for every backend; and how one is kept by backends that keep none."""
