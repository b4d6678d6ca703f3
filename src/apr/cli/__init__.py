"""The apr command line."""
