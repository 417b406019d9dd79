"""What is measured: this store, the bare drivers and its peers, all behind one interface."""
