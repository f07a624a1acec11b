"""What users and chatkit itself test with: virtual time, faulty networks, histories and their checker, contracts."""
