"""What runs beneath the program: state directory, embedded PostgreSQL, child processes, progress page.

Stands beside `prewatt.core` at the bottom of the import order: anybody may import it, and it imports
only `core`. `state` and `progress_page` use nothing but the standard library, because the
bootstrap `run` imports them before the project's environment exists.
"""
