"""When it happens: the engines turn a priced program into a timeline."""
