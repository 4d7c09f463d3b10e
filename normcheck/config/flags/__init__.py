"""Every flag, declared once: what it is called, what it takes, and what it means.

The commands' signatures, the parser that does without Typer, the keys of a configuration file,
``--show-settings`` and the documentation are made from these groups.
"""
