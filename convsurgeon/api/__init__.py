"""The public functions, one module each. `convsurgeon` itself re-exports them on first use."""
