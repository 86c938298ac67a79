"""Files and arrays of images: formats, ranges, folders, data sets."""
