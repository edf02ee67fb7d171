"""Who may do what: keys with scopes, whom a request acts for, and what was done."""
