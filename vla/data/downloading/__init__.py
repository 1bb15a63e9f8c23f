"""Published image-text data: fetched, checked, unpacked and put together."""
