"""Pages that are one file: they can be sent to others, and load nothing from anywhere."""
