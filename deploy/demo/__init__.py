"""What `pingstream demo` is made of: its folder, a worker on a leash, an emitter, progress, and the KPIs as tables."""
