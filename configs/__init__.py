"""Complete recipes as YAML; a package, so that an installed Waymark finds the built-in ones."""
