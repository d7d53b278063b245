"""The API's routes, and typed structs for what each dialect takes and sends."""
