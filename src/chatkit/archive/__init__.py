"""Where the bodies of cold entries lie. The port is in `base`, the form of an object in `format`."""
