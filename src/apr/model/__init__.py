"""The decoder, its loading, its initialisation, its loss."""
