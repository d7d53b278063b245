"""What HTTP and the scheduler cost, and our server beside its peers."""
