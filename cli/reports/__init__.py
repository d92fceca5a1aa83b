"""Verdicts as files: JSON, JUnit XML, Markdown and HTML pages. Each is made from the JSON of a verdict alone."""
