"""The billing half of the pure core: an account's events into its state, its movements and what it adds to each KPI."""
