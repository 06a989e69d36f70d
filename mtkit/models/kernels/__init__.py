"""C++ functions for CPUs: models/compiler.py compiles them when they are first asked for."""
