"""How pages are made of templates: every value is escaped, and a name that is missing is an error."""

import jinja2


def page_environment(package: str) -> jinja2.Environment:
    """Templates of the folder `templates` of a package."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package, "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
