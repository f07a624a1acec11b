"""What `chatkit doctor` looks at: a module for each place where a set-up goes wrong, a function for each check."""
