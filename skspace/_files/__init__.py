"""What store and persistence share: a file format, files of strangers, writing in one step."""
