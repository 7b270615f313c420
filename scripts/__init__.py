"""The verbs, one thin file each: parse arguments, call one function, print."""
