"""One file a method, named after its class; what a family shares is in files with an underscore."""
