"""The viewer: a local web page over runs, live or finished, down to one trajectory's tokens and evidence."""
