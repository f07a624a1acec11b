"""What every implementation of a port must do, as test classes to subclass: one module for each port."""
