"""What `pingstream doctor` looks at, one module a part."""
