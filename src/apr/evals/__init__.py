"""Loss and generation for any module."""
