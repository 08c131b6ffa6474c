"""Content credentials (C2PA): sign what is generated, and read what a file's credentials say."""
