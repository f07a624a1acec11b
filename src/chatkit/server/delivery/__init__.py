"""Delivery workers: what nobody confirmed in time goes to push."""
