"""What the book is made from: editions, notebooks, and the plan and archive of the runs that notebooks ask for."""
