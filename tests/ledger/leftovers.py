"""What is left of a text in the files of a folder, byte for byte."""

import json


def holds(folder, text):
    """The names of the files in a folder that hold the text, as it is or as JSON writes it."""
    wanted = {text.encode(), json.dumps(text)[1:-1].encode()}
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [path.name for path in files if any(each in path.read_bytes() for each in wanted)]
