"""One module for each system whose exports can be read: files in, records out. None of them writes or decides."""
