"""What each dialect of the API takes and sends, as typed structs."""
