"""What an attacker tries: every numbered case with the tests that hold it, and the matrix of foreign ids.

`cases` maps the numbers to tests. `rows` says what each HTTP operation and client event is asked with a foreign id;
`matrix` asks it as every kind of outsider; `holes` plants bugs that the matrix must find.
"""
