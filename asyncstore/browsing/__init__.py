"""Looking at what is there, page by page: `abc` is what a backend does, `browser` what a store offers."""
