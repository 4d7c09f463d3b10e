"""The report as one page for a browser, with figures; jinja2 is imported where one is asked for."""
