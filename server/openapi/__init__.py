"""The OpenAPI document, made from the route table and the Structs; nothing of it is written by hand."""
