"""What a process says about itself: log lines, metrics, and whether it lives and is ready.

Stands at the bottom of the import order beside `runtime`, so that whatever does the work can count it.
"""
